"""What ``evalsuite doctor`` finds out, by trying, on this machine and on broken ones."""

from __future__ import annotations

import importlib.metadata
import shutil

import pytest

from evalsuite.cache import AnswerCache
from evalsuite.diagnosis import Finding, diagnose
from evalsuite.registry import task_names
from evalsuite.request import Generated


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
    for part, package in (("engine vllm", "vllm"), ("judge and servers", "openai")):
        assert (found[part].state == "works") == (package in installed)
    if shutil.which("bwrap") is None:
        assert found["sandbox"].state == "absent"
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
