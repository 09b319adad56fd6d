"""A run is continued, or taken for finished, only where it is the very same and whole."""

from __future__ import annotations

import pytest
from quiz_factory import (
    SCORING,
    AddingEngine,
    by_sample,
    contestant_of,
    plan_quiz,
    sums,
    take,
    write_quiz,
    write_rows,
)

from evalsuite.errors import BadTask, DataMissing, RunIncomplete, UnknownName
from evalsuite.evaluation import Settings, finished_run, new_manifest
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.rescore import rescore
from evalsuite.store import find_runs, open_run


@pytest.fixture
def data(tmp_path):
    return write_rows(tmp_path / "data" / "quiz.jsonl", sums(8))


def test_a_run_that_lost_a_record_is_not_finished(tmp_path, data):
    tasks = plan_quiz(write_quiz(tmp_path / "plugin"), data)
    run = take(AddingEngine(), tasks, tmp_path / "out")
    whole = by_sample(run)
    file = run.path / "records.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3] + lines[4:]))
    with pytest.raises(RunIncomplete, match="7 records of 8"):
        rescore(open_run(run.path), {}, (tmp_path / "plugin",))
    assert open_run(run.path).manifest.results["quiz"].scored == 8, "good results were replaced"
    manifest = new_manifest(contestant_of(AddingEngine()), tasks, Settings(out=tmp_path / "out"))
    assert finished_run(manifest, Settings(out=tmp_path / "out")) is None
    again = take(AddingEngine(), tasks, tmp_path / "out")
    assert again.path == run.path
    assert by_sample(again).keys() == whole.keys()


def test_another_plugin_of_the_same_name_is_another_run(tmp_path, data):
    first = take(AddingEngine(), plan_quiz(write_quiz(tmp_path / "one"), data), tmp_path / "out")
    other = write_quiz(tmp_path / "two", scoring="        right = 1.0\n")
    second = take(AddingEngine(), plan_quiz(other, data), tmp_path / "out")
    assert first.path != second.path
    assert second.manifest.results["quiz"].metrics["accuracy"].value == 1


def test_a_scorer_that_exits_is_an_error_record(tmp_path, data):
    plugin = write_quiz(tmp_path / "plugin", scoring="        raise SystemExit(0)\n")
    run = take(AddingEngine(), plan_quiz(plugin, data), tmp_path / "out")
    assert {r.error.code for r in by_sample(run).values() if r.error} == {"scorer_failed"}
    assert SCORING not in (plugin / "quiz.py").read_text()


def test_a_plugin_that_raises_or_exits_is_named(tmp_path, data):
    for fault in ("raise SystemExit(3)", "1 / 0"):
        plugin = write_quiz(tmp_path / "plugin")
        source = (plugin / "quiz.py").read_text()
        broken = source.replace(
            "    def examples(self", f"        {fault}\n\n    def examples(self", 1
        )
        (plugin / "quiz.py").write_text(broken)
        with pytest.raises(BadTask, match="quiz"):
            plan_task(TaskChoice(label="quiz", data=data), task_path=(plugin,))


def test_an_empty_subset_is_no_second_name_of_a_task(tmp_path, data):
    plugin = write_quiz(tmp_path / "plugin")
    with pytest.raises(UnknownName, match="subset"):
        plan_task(TaskChoice(label="quiz/", data=data), task_path=(plugin,))


def test_one_damaged_run_does_not_hide_its_siblings(tmp_path, data):
    run = take(AddingEngine(), plan_quiz(write_quiz(tmp_path / "p"), data), tmp_path / "out")
    (tmp_path / "out" / "damaged").mkdir()
    (tmp_path / "out" / "damaged" / "run.json").write_text("{")
    wrong: list[str] = []
    assert [found.path for found in find_runs(tmp_path / "out", wrong)] == [run.path]
    assert len(wrong) == 1
    with pytest.raises(DataMissing):
        open_run(tmp_path / "out" / "nothing")
