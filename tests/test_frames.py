"""Runs as DataFrames and Parquet files."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from runs_factory import make_part, make_record, make_run, on_disk

import evalsuite
from evalsuite.errors import CannotWrite, DataMissing
from evalsuite.frames import load_run
from evalsuite.metrics.metric import Metric
from evalsuite.record import Record
from evalsuite.request import Chosen, Failure, Generated, Scored


def parquet(run, folder):
    """Both files, read by pyarrow alone, as lists of rows."""
    import pyarrow.parquet

    files = load_run(run.path).to_parquet(folder)
    assert [file.name for file in files] == ["records.parquet", "scores.parquet"]
    assert sorted(folder.iterdir()) == sorted(files), "something else is left behind"
    return [pyarrow.parquet.read_table(file).to_pylist() for file in files]


def test_every_kind_of_answer_is_a_row(tmp_path):
    records = [
        Record(
            task="quiz", sample="text", prompt="1+1=", target="2", answer="2", cached=True,
            tags={"subject": "sums"}, scores={"accuracy": 1.0},
            response=Generated("2!", "length", 7, (5, 6)),
        ),
        Record(
            task="quiz", sample="choice", target="B", scores={"accuracy": 0.0}, answer="A",
            response=Chosen(0, (-1.5, -2.5), (1, 1), 9),
        ),
        Record(
            task="quiz", sample="none", target=[1, {"k": "\ud800"}], scores={"accuracy": 0.0},
            response=Chosen(None),
        ),
        Record(
            task="quiz", sample="scored", scores={"accuracy": 0.0},
            response=Scored(-3.25, 2, True, 4),
        ),
        Record(task="quiz", sample="failed", error=Failure("engine_failed", "lost")),
    ]  # fmt: skip
    rows, _ = parquet(on_disk(make_run("m", records), tmp_path / "runs"), tmp_path / "p")
    text, choice, none, scored, failed = rows
    assert [row["sample"] for row in rows] == ["text", "choice", "none", "scored", "failed"]
    assert (text["prompt"], text["target"], text["tag.subject"]) == ("1+1=", "2", "sums")
    assert (text["output"], text["finish_reason"], text["answer"]) == ("2!", "length", "2")
    assert (text["prompt_tokens"], text["output_tokens"], text["cached"]) == (7, 2, True)
    assert (text["logprobs"], text["error"], text["score.accuracy"]) == (None, None, 1.0)
    assert (choice["output"], choice["logprobs"]) == ("0", [-1.5, -2.5])
    assert (none["output"], none["logprobs"]) == (None, [])
    assert none["target"] == r'[1,{"k":"\ud800"}]'
    assert (scored["logprobs"], scored["prompt_tokens"]) == ([-3.25], 4)
    assert (failed["error"], failed["output"], failed["score.accuracy"]) == (
        "engine_failed",
        None,
        None,
    )
    assert failed["tag.subject"] is None


text = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\ud800\x00\x1b\u202e🙂"), max_size=20
)
records = st.lists(
    st.builds(
        lambda sample, output, target, answer, tag: make_record(
            sample, text=output, target=target, answer=answer, tags={"tag": tag}, prompt=output
        ),
        text,
        text,
        text | st.lists(text, max_size=2) | st.integers() | st.none(),
        st.none() | text,
        text,
    ),
    max_size=5,
    unique_by=lambda record: record.sample,
)


def shown(value: str) -> str:
    """Lone surrogates as Python writes them in source code; all else as it is."""
    return "".join(f"\\u{ord(c):04x}" if 0xD800 <= ord(c) < 0xE000 else c for c in value)


SURROGATE = "\ud800\x00"


@settings(max_examples=60, deadline=None)
@given(records)
@example(
    [
        make_record(
            SURROGATE, text=SURROGATE, target=[SURROGATE], answer=SURROGATE,
            tags={"tag": SURROGATE}, prompt=SURROGATE,
        )
    ]
)  # fmt: skip
def test_hostile_texts_survive_parquet(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("hostile")
    run = on_disk(make_run("m", records, [make_part()]), folder / "runs")
    rows, scores = parquet(run, folder / "p")
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        assert row["sample"] == shown(record.sample)
        assert row["output"] == row["prompt"] == shown(record.prompt)
        assert row["tag.tag"] == shown(record.tags["tag"])
        assert row["answer"] == (None if record.answer is None else shown(record.answer))
        if isinstance(record.target, str):
            assert row["target"] == shown(record.target)
    assert {row["group"] for row in scores if row["tag"]} == {
        shown(record.tags["tag"]) for record in records
    }


def test_scores_are_those_of_the_manifest(tmp_path):
    part = make_part(
        metrics=(Metric("accuracy"), Metric("f1", formula="f1", statistic="overlap")),
    )
    records = [
        make_record("a", tags={"s": "x"}),
        make_record("b", 0.0, tags={"s": "x"}),
        make_record("c", 1.0, tags={"s": "y"}),
    ]
    records = [
        Record(task=r.task, sample=r.sample, tags=r.tags, response=r.response,
               scores={"accuracy": r.scores["accuracy"], "overlap": [1.0, 2.0, 2.0]})
        for r in records
    ]  # fmt: skip
    run = on_disk(make_run("m", records, [part]), tmp_path / "runs")
    rows, scores = parquet(run, tmp_path / "p")
    found = {(s["metric"], s["tag"], s["group"]): (s["value"], s["n"]) for s in scores}
    assert found == {
        ("accuracy", "", ""): (2 / 3, 3),
        ("accuracy", "s", "x"): (1 / 2, 2),
        ("accuracy", "s", "y"): (1.0, 1),
        ("f1", "", ""): (1 / 2, 3),
        ("f1", "s", "x"): (1 / 2, 2),
        ("f1", "s", "y"): (1 / 2, 1),
    }
    whole = next(s for s in scores if s["metric"] == "accuracy" and not s["tag"])
    interval = run.manifest.results["quiz"].metrics["accuracy"]
    assert (whole["low"], whole["high"]) == (interval.low, interval.high)
    assert [row["score.overlap"] for row in rows] == [[1.0, 2.0, 2.0]] * 3


def test_tasks_with_other_tags_and_scores_stand_in_one_table(tmp_path):
    records = [
        make_record("a", task="one", tags={"subject": "x"}),
        make_record("a", [3.0, 4.0], task="two", metric="bleu", tags={"direction": "zh-en"}),
    ]
    metric = Metric("bleu", formula="mean")
    parts = [make_part("one"), make_part("two", metrics=(metric,), main_metric="bleu")]
    rows, _ = parquet(on_disk(make_run("m", records, parts), tmp_path / "runs"), tmp_path / "p")
    assert rows[0]["score.bleu"] is None
    assert rows[0]["tag.direction"] is None
    assert rows[1]["tag.subject"] is None
    assert rows[1]["score.bleu"] == [3.0, 4.0]
    assert rows[1]["score.accuracy"] is None


def test_numbers_and_statistics_of_one_name_stand_in_one_column(tmp_path):
    """Both are legal for a sample, and ``v`` means ``[v, 1]`` (see Metric)."""
    records = [make_record("a", 1.0), make_record("b", [0.0, 0.0]), make_record("c", None)]
    rows, scores = parquet(on_disk(make_run("m", records), tmp_path / "runs"), tmp_path / "p")
    assert [row["score.accuracy"] for row in rows] == [[1.0, 1.0], [0.0, 0.0], None]
    assert scores[0]["value"] == 1.0


def test_nothing_measured_is_nan_and_no_records_are_no_rows(tmp_path):
    run = on_disk(make_run("m", [], [make_part(samples=3)]), tmp_path / "runs")
    rows, scores = parquet(run, tmp_path / "p")
    assert rows == []
    [score] = scores
    assert score["n"] == 0
    assert score["value"] is None or math.isnan(score["value"])


def test_exporting_again_replaces_and_a_bad_place_is_an_error(tmp_path):
    run = on_disk(make_run("m", [make_record("a")]), tmp_path / "runs")
    parquet(run, tmp_path / "p")
    parquet(run, tmp_path / "p")
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="file"):
        load_run(run.path).to_parquet(tmp_path / "file")
    with pytest.raises(DataMissing):
        load_run(tmp_path / "nowhere")
    assert evalsuite.load_run is load_run
