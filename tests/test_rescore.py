"""Scoring the answers of a run again, without the model."""

from __future__ import annotations

import msgspec
import pytest
from quiz_factory import (
    SCORING,
    AddingEngine,
    by_sample,
    plan_quiz,
    sums,
    take,
    write_quiz,
    write_rows,
    wrong,
)

from evalsuite.errors import RunIncomplete, RunsIncomparable, UnknownName
from evalsuite.record import RunManifest
from evalsuite.rescore import rescore
from evalsuite.store import Journal, find_runs, open_run

LENIENT = SCORING + "        right = 1.0\n"


@pytest.fixture
def quiz(tmp_path):
    """The task folder and the data folder of a run in ``out``."""
    folder = write_quiz(tmp_path / "tasks")
    data = write_rows(tmp_path / "data" / "quiz.jsonl", sums(10))
    take(AddingEngine(fails_on=["9+10="]), plan_quiz(folder, data), tmp_path / "out")
    return folder, data


@pytest.fixture
def run(quiz, tmp_path):
    return find_runs(tmp_path / "out")[0]


def test_the_same_scorer_changes_nothing(quiz, run):
    before, results = run.path.joinpath("records.jsonl").read_bytes(), run.manifest.results
    assert rescore(run, {}, (quiz[0],)) == 0
    assert run.path.joinpath("records.jsonl").read_bytes() == before
    assert open_run(run.path).manifest.results == results


def test_another_scorer_changes_what_it_scores_otherwise(quiz, run):
    folder, _ = quiz
    before = by_sample(run)
    write_quiz(folder, scoring=LENIENT)
    assert rescore(run, {}, (folder,)) == sum(wrong(f"q{n}") for n in range(9))
    after = by_sample(open_run(run.path))
    assert {s: r.scores.get("accuracy") for s, r in after.items()} == {
        f"q{n}": None if n == 9 else 1.0 for n in range(10)
    }
    for sample, record in after.items():
        assert record.response == before[sample].response
        assert record.key == before[sample].key
    result = open_run(run.path).manifest.results["quiz"]
    assert (result.metrics["accuracy"].value, result.metrics["accuracy"].n) == (1.0, 9)
    assert result.errors == {"out_of_memory": 1}


def test_it_gives_what_a_fresh_run_would(quiz, run, tmp_path):
    folder, data = quiz
    write_quiz(folder, scoring=LENIENT)
    rescore(run, {}, (folder,))
    fresh = take(AddingEngine(fails_on=["9+10="]), plan_quiz(folder, data), tmp_path / "fresh")
    assert by_sample(run) == by_sample(fresh)
    assert run.manifest.results == fresh.manifest.results
    assert run.manifest.warnings == fresh.manifest.warnings


def test_new_metrics_and_version_go_into_the_manifest(quiz, run):
    folder, _ = quiz
    plugin = folder / "quiz.py"
    text = plugin.read_text().replace("version=1", "version=2")
    text = text.replace('Metric("accuracy"), ', 'Metric("accuracy"), Metric("right"), ')
    text = text.replace('{"accuracy": right,', '{"accuracy": right, "right": 1 - right,')
    plugin.write_text(text)
    assert rescore(run, {}, (folder,)) == 9
    [part] = open_run(run.path).manifest.tasks
    assert ([m.name for m in part.metrics], part.version) == (["accuracy", "right", "f1"], 2)
    metrics = open_run(run.path).manifest.results["quiz"].metrics
    assert metrics["right"].value == pytest.approx(1 - metrics["accuracy"].value)


def test_a_limited_run_of_a_subset_is_scored_on_its_own_samples(quiz, tmp_path):
    folder, data = quiz
    from evalsuite.plan import TaskChoice, plan_task

    choice = TaskChoice(label="quiz/odd", data=data)
    planned = plan_task(choice, task_path=(folder,), limit=3, seed=4)
    run = take(AddingEngine(), [planned], tmp_path / "few", seed=4, limit=3)
    before = by_sample(run)
    assert rescore(run, {}, (folder,)) == 0
    assert by_sample(run) == before
    assert len(before) == 3


@pytest.mark.parametrize("change", ["one byte", "a row more", "a row less"])
def test_changed_data_is_refused_and_nothing_is_touched(quiz, run, change):
    folder, data = quiz
    rows = sums(10)
    rows = {
        "one byte": [rows[0] | {"answer": "2"}, *rows[1:]],
        "a row more": sums(11),
        "a row less": sums(9),
    }[change]
    write_rows(data / "quiz.jsonl", rows)
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    with pytest.raises(RunsIncomparable, match="--data quiz=PATH"):
        rescore(run, {}, (folder,))
    assert {file.name: file.read_bytes() for file in run.path.iterdir()} == before


def test_data_that_moved_is_found_where_the_user_says(quiz, run, tmp_path):
    folder, data = quiz
    data.rename(tmp_path / "elsewhere")
    assert rescore(run, {"quiz": tmp_path / "elsewhere"}, (folder,)) == 0


def test_a_task_that_reads_other_ids_is_refused(quiz, run):
    folder, _ = quiz
    plugin = folder / "quiz.py"
    plugin.write_text(plugin.read_text().replace('Sample(row["id"]', 'Sample("new/" + row["id"]'))
    before = by_sample(run)
    with pytest.raises(RunsIncomparable, match="no sample 'q0'"):
        rescore(run, {}, (folder,))
    assert by_sample(open_run(run.path)) == before


def test_a_variant_that_is_gone_is_named(quiz, run):
    folder, _ = quiz
    plugin = folder / "quiz.py"
    plugin.write_text(plugin.read_text().replace('Variant("ask"), ', ""))
    with pytest.raises(UnknownName, match="variant named 'ask'"):
        rescore(run, {}, (folder,))


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_an_unfinished_run_is_refused(quiz, run, status):
    manifest: RunManifest = msgspec.structs.replace(run.manifest, status=status)
    with Journal(run.path, manifest):
        pass
    with pytest.raises(RunIncomplete, match=f"the run is {status}.*resume"):
        rescore(open_run(run.path), {}, (quiz[0],))


def test_the_sample_set_that_ships_with_a_task_is_found_again(tmp_path):
    folder = write_quiz(tmp_path / "tasks")
    write_rows(folder / "sample" / "quiz.jsonl", sums(4))
    run = take(AddingEngine(), plan_quiz(folder, None), tmp_path / "out")
    assert run.manifest.tasks[0].data.path == "sample"
    assert rescore(run, {}, (folder,)) == 0


def test_rows_left_out_stay_left_out(tmp_path):
    folder = write_quiz(tmp_path / "tasks")
    data = write_rows(tmp_path / "data" / "quiz.jsonl", [*sums(4), {"id": "bad"}])
    run = take(AddingEngine(), plan_quiz(folder, data, skip_bad_rows=True), tmp_path / "out")
    assert len(run.manifest.tasks[0].data.bad_rows) == 1
    assert any("1 bad row" in warning for warning in run.manifest.warnings)
    assert rescore(run, {}, (folder,)) == 0
    assert any("1 bad row" in warning for warning in run.manifest.warnings)
