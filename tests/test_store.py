"""The journal survives being killed, a torn line, a second process and a full disk."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite import lines
from evalsuite.errors import CannotWrite, DataMissing, RunDamaged, RunLocked
from evalsuite.metrics.metric import Metric
from evalsuite.record import (
    CheckpointPart,
    DataPart,
    Interval,
    Record,
    RunManifest,
    TaskPart,
    TaskResult,
)
from evalsuite.request import Failure, Generated
from evalsuite.store import (
    Journal,
    Run,
    find_runs,
    open_run,
    read_manifest,
    replace_records,
    write_manifest,
)


def manifest(run_id: str = "model-0123456789") -> RunManifest:
    part = TaskPart(
        name="t", title="T", version=1, variant="v", num_fewshot=0, main_metric="accuracy",
        metrics=(Metric("accuracy"),), samples=3, total=3, sample_ids_sha256="0",
        data=DataPart(path="sample", sha256={}),
    )  # fmt: skip
    return RunManifest(
        run_id=run_id, status="running", created="2026-01-01T00:00:00+00:00", evalsuite="0",
        checkpoint=CheckpointPart(name="model", source="model", fingerprint="f"), engine={},
        seed=0, limit=None, tasks=(part,), signature="s",
    )  # fmt: skip


def record(sample: str, text: str = "x", **more: object) -> Record:
    return Record(task="t", sample=sample, response=Generated(text=text), **more)


def samples(folder: Path) -> list[str]:
    return [r.sample for r in Run(folder, manifest()).records()]


@pytest.mark.parametrize(("part", "kept"), [(None, ["first", "next"]), (9, ["next"])])
def test_an_interrupt_takes_nothing_back_that_is_written(tmp_path, monkeypatch, part, kept):
    """Python runs a signal's handler after the write; a write that was cut off leaves no torn line."""
    write = os.write

    def interrupted(stream, block):
        write(stream, block[:part])
        raise KeyboardInterrupt

    with Journal(tmp_path / "run", manifest()) as journal:
        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.append([record("first")])
        monkeypatch.setattr(os, "write", write)
    with Journal(tmp_path / "run", manifest()) as journal:
        journal.append([record("next")])
    assert samples(tmp_path / "run") == kept


def test_what_was_appended_is_read_back_in_order(tmp_path):
    with Journal(tmp_path / "r", manifest()) as journal:
        journal.append([record("a"), record("b")])
        journal.append([record("c")])
    assert samples(tmp_path / "r") == ["a", "b", "c"]


hostile = st.text(st.characters(exclude_categories=()), max_size=40)


@settings(max_examples=200, deadline=None)
@given(hostile, hostile)
def test_any_text_survives_a_line(text, sample):
    written = lines.encode(record(sample, text))
    assert b"\n" not in written
    assert lines.decode(written, Record) == record(sample, text)
    assert json.loads(written)["response"]["text"] == text


@pytest.mark.parametrize("cut", [1, 2, 30, 10_000])
def test_a_torn_last_line_is_cut_off_and_only_it(tmp_path, cut):
    folder = tmp_path / "r"
    with Journal(folder, manifest()) as journal:
        journal.append([record("a"), record("b", "long " * 40_000)])
    file = folder / "records.jsonl"
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - cut)
    with Journal(folder, manifest()) as journal:
        assert journal.done == {("t", "a"): False}
        journal.append([record("b")])
    assert samples(folder) == ["a", "b"]


def test_a_second_writer_is_refused_while_the_first_one_lives(tmp_path):
    with Journal(tmp_path / "r", manifest()), pytest.raises(RunLocked):
        Journal(tmp_path / "r", manifest())
    Journal(tmp_path / "r", manifest()).close()


def test_a_second_process_is_refused(tmp_path):
    code = f"""
import fcntl, pathlib, sys, time
folder = pathlib.Path({str(tmp_path)!r})
stream = (folder / "lock").open("ab")
fcntl.flock(stream, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(RunLocked, match="another process"):
            Journal(tmp_path, manifest())
    finally:
        process.kill()
        process.communicate()
    Journal(tmp_path, manifest()).close()


def test_another_run_in_the_folder_is_refused(tmp_path):
    Journal(tmp_path / "r", manifest()).close()
    with pytest.raises(RunDamaged, match="another run"):
        Journal(tmp_path / "r", manifest("other-0123456789"))


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    folder = tmp_path / "r"
    with Journal(folder, manifest()) as journal:
        journal.append([record("a")])
    with (folder / "records.jsonl").open("ab") as stream:
        stream.write(b"not a record\n" + lines.encode(record("b")) + b"\n")
    with pytest.raises(RunDamaged, match=r"records\.jsonl:2"):
        samples(folder)
    with pytest.raises(RunDamaged, match=r"records\.jsonl:2"):
        Journal(folder, manifest())
    Path(folder / "lock").unlink()  # the refused journal let the lock go
    with Path(folder / "lock").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_retried_failure_counts_once_and_the_last_line_wins(tmp_path):
    folder = tmp_path / "r"
    with Journal(folder, manifest()) as journal:
        journal.append(
            [record("a"), Record(task="t", sample="b", error=Failure("engine_failed", "x"))]
        )
    with Journal(folder, manifest()) as journal:
        assert journal.done == {("t", "a"): False, ("t", "b"): True}
        journal.append([record("b", "better")])
    with Journal(folder, manifest()) as journal:
        assert journal.done == {("t", "a"): False, ("t", "b"): False}
    found = list(Run(folder, manifest()).records())
    assert [r.sample for r in found] == ["a", "b"]
    assert found[1].response == Generated(text="better")


def test_a_full_disk_keeps_whole_lines_only(tmp_path):
    """A file size limit gives the same short write and error as a disk without space."""
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
import resource, signal
from test_store import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path({str(tmp_path / "r")!r}), manifest())
journal.append([record("a")])
size = (journal.folder / "records.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, resource.RLIM_INFINITY))
try:
    journal.append([record("b", "x" * 1000)])
except CannotWrite as fault:
    print(fault.code)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append([record("c")])
journal.close()
"""
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=here, check=True
    )
    assert done.stdout.strip() == "E211"
    assert samples(tmp_path / "r") == ["a", "c"]


def test_a_device_without_space_is_a_clear_error(tmp_path):
    folder = tmp_path / "r"
    Journal(folder, manifest()).close()
    (folder / "records.jsonl").unlink()
    (folder / "records.jsonl").symlink_to("/dev/full")
    with Journal(folder, manifest()) as journal, pytest.raises(CannotWrite, match="no space"):
        journal.append([record("a")])


def test_an_unwritable_place_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CannotWrite, match="--out"):
        Journal(tmp_path / "file" / "r", manifest())


def test_sigkill_at_any_moment_loses_no_whole_line(tmp_path):
    """A writer is killed many times; every sample it had reported stands, once, and is whole."""
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from test_store import *
with Journal(Path({str(tmp_path / "r")!r}), manifest()) as journal:
    start = len(journal.done)
    for number in range(start, 100_000):
        journal.append([record(str(number), "字" * (number % 700))])
        print(number, flush=True)
"""
    here = str(Path(__file__).parent)
    reported: list[int] = []
    for attempt in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=here
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, "the writer did not start"
        time.sleep(0.01 * (attempt + 1))
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        reported += [int(n) for n in (first + rest).split("\n")[:-1] if n]
    Journal(tmp_path / "r", manifest()).close()
    found = [int(sample) for sample in samples(tmp_path / "r")]
    assert found == list(range(len(found)))
    assert set(reported) <= set(found)


def test_manifest_round_trip_with_nan_as_null(tmp_path):
    before = manifest()
    nan = Interval(float("nan"), float("nan"), float("nan"), 0)
    before.results["t"] = TaskResult(
        samples=0, scored=0, errors={}, truncated=0, extracted=float("nan"),
        metrics={"accuracy": nan}, by_tag={},
    )  # fmt: skip
    write_manifest(tmp_path, before)
    json.loads((tmp_path / "run.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    after = read_manifest(tmp_path / "run.json")
    assert str(after.results["t"].metrics["accuracy"].value) == "nan"
    assert after.tasks == before.tasks


def test_a_manifest_of_a_newer_version_is_refused(tmp_path):
    write_manifest(tmp_path, manifest())
    file = tmp_path / "run.json"
    file.write_text(file.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(RunDamaged, match="newer"):
        read_manifest(file)


def test_open_run_by_name_takes_the_newest(tmp_path):
    for number, created in (("1", "2026-01-01"), ("2", "2026-03-01"), ("3", "2026-02-01")):
        one = manifest(f"model-000000000{number}")
        one.created = created
        write_manifest(tmp_path / one.run_id, one)
    assert open_run(tmp_path / "model").manifest.run_id == "model-0000000002"
    assert open_run(tmp_path / "model-0000000001" / "run.json").manifest.created == "2026-01-01"
    with pytest.raises(DataMissing, match=r"did you mean .*model-0000000003"):
        open_run(tmp_path / "model-000000003")


def test_replace_records_is_all_or_nothing(tmp_path):
    with Journal(tmp_path / "r", manifest()) as journal:
        journal.append([record("a"), record("b")])
    run = open_run(tmp_path / "r")

    def breaks():
        yield record("a", "new")
        raise ValueError("scorer")

    with pytest.raises(ValueError, match="scorer"):
        replace_records(run, breaks())
    assert [r.response.text for r in run.records()] == ["x", "x"]
    replace_records(run, iter([record("a", "new")]))
    assert [r.response.text for r in run.records()] == ["new"]
    assert {p.name for p in run.path.iterdir()} == {"run.json", "records.jsonl", "lock"}


def test_limits_are_not_left_behind():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_manifest_that_is_a_folder_is_damage_and_no_endless_search(tmp_path):
    (tmp_path / "x" / "run.json").mkdir(parents=True)
    damaged: list[str] = []
    assert find_runs(tmp_path, damaged) == []
    assert "not a file" in damaged[0]
    with pytest.raises(DataMissing):
        open_run(tmp_path / "x")
