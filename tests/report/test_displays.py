"""What a run shows while it goes on: to people, to logs, to programs; and never a stranger's escapes."""

from __future__ import annotations

import io
import json
import math
import os
import random
import re
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quiz_factory import (
    AddingEngine,
    contestant_of,
    plan_quiz,
    sums,
    take,
    write_quiz,
    write_rows,
    write_sums,
    wrong,
)
from runs_factory import make_part, make_record
from statsmodels.stats.proportion import proportion_confint

from evalsuite.metrics.metric import Metric
from evalsuite.metrics.translation import statistics as segment_statistics
from evalsuite.report.displays import (
    JsonDisplay,
    PlainDisplay,
    RichDisplay,
    Tally,
    open_display,
)
from evalsuite.report.tables import shown
from evalsuite.stats.sufficient import statistics
from evalsuite.store import open_run

HOSTILE = "\x1b[2J\x07\u202egone\ud800[/b]:fire:\x9b1m"
ACTING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")
"""Everything that moves a terminal's cursor or colours, the line end apart."""

OWN_ESCAPES = re.compile("\x1b\\[\\??[0-9;]*[a-zA-Z]")


@pytest.fixture
def hostile(tmp_path):
    """Tasks whose data, and a contestant whose name, are full of escape sequences."""
    write_quiz(tmp_path)
    rows = [row | {"question": HOSTILE + row["question"]} for row in sums(20)]
    rows += [{"id": f"x{HOSTILE}", "question": HOSTILE, "answer": HOSTILE, "group": HOSTILE}]
    tasks = plan_quiz(tmp_path, write_rows(tmp_path / "data" / "quiz.jsonl", rows))
    contestant = contestant_of(AddingEngine())
    part = msgspec.structs.replace(contestant.part, name=HOSTILE, chat_template=HOSTILE)
    return msgspec.structs.replace(contestant, part=part), tasks


def show(display, contestant, tasks, out) -> None:
    display.status(f"a status of {HOSTILE}")
    run = take(contestant, tasks, out, display=display)
    display.results(run.manifest, run.path)


def test_json_lines_tell_the_plan_the_progress_and_the_results(hostile, tmp_path, capsys):
    show(JsonDisplay(), *hostile, tmp_path / "out")
    output, errors = capsys.readouterr()
    assert errors == ""
    assert output.isascii()
    assert not ACTING.search(output)
    events = [
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        for line in output.splitlines()
    ]
    kinds = [event["event"] for event in events]
    assert list(dict.fromkeys(kinds)) == ["status", "plan", "progress", "results"]
    plan = next(event for event in events if event["event"] == "plan")
    assert (plan["checkpoint"], plan["to_ask"]) == (HOSTILE, 21)
    assert plan["tasks"][0]["part"]["name"] == "quiz"
    progress = [event for event in events if event["event"] == "progress"][-1]
    assert (progress["done"], progress["total"], progress["errors"]) == (21, 21, 0)
    results = events[-1]
    assert results["status"] == "complete"
    right = sum(not wrong(f"q{n}") for n in range(20))
    accuracy = results["results"]["quiz"]["metrics"]["accuracy"]
    assert accuracy["value"] == pytest.approx(right / 21)
    assert progress["score"].split(" ±")[0] == f"{100 * right / 21:.1f}%"
    assert open_run(results["run"]).manifest.status == "complete"


def test_plain_lines_go_to_standard_error_and_the_table_to_standard_output(
    hostile, tmp_path, capsys
):
    show(PlainDisplay(), *hostile, tmp_path / "out")
    output, errors = capsys.readouterr()
    assert not ACTING.search(output + errors)
    lines = errors.splitlines()
    assert lines[0].startswith("a status of ␛[2J")
    assert any("21 requests to compute" in line for line in lines)
    score = f"{100 * sum(not wrong(f'q{n}') for n in range(20)) / 21:.1f}%"
    assert re.search(rf"^quiz 21/21 .*accuracy {re.escape(score)}", lines[-1])
    assert score in output
    assert "[/b]:fire:" in output, "a name is shown as it is, not as markup"


def test_bars_on_a_terminal(hostile, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm-256color")
    show(RichDisplay(), *hostile, tmp_path / "out")
    output, errors = capsys.readouterr()
    assert "\x1b[2J" not in output + errors
    assert "\x1b[" in errors, "this is no terminal, and the test proves nothing"
    text = OWN_ESCAPES.sub("", output + errors).replace("\r", "")
    assert not ACTING.search(text)
    assert "a status of ␛[2J␇⟦U+202E⟧gone⟦U+D800⟧[/b]:fire:" in text
    assert "21/21" in text
    score = f"{100 * sum(not wrong(f'q{n}') for n in range(20)) / 21:.1f}%"
    assert text.rindex("21/21") < text.rindex(score)


@pytest.mark.parametrize("display", [JsonDisplay, PlainDisplay, RichDisplay])
def test_failures_and_truncations_are_shown_at_once(display, tmp_path, capsys):
    tasks = write_sums(tmp_path, 6)
    engine = AddingEngine(fails_on=["2+3=", "3+4="])
    run = take(engine, tasks, tmp_path / "out", display=display())
    output = "".join(capsys.readouterr())
    assert '"errors": 2' in output if display is JsonDisplay else "2 errors" in output
    assert run.manifest.results["quiz"].errors == {"out_of_memory": 2}

    one = display()
    one.plan(outlook_of(tasks[0].part, 2))
    one.record(make_record("a", truncated=True, tags={}, task="quiz"))
    one.record(make_record("b", task="quiz"))
    one.end()
    output = "".join(capsys.readouterr())
    assert '"truncated": 1' in output if display is JsonDisplay else "1 truncated" in output


def outlook_of(part, waiting):
    from evalsuite.report.displays import Outlook, TaskOutlook

    return Outlook("id", "name", "none", "adding", [TaskOutlook(part, waiting, 0, 0)], 0, 0, [])


@pytest.mark.parametrize("display", [JsonDisplay, PlainDisplay, RichDisplay])
def test_a_task_with_nothing_left_to_do_and_a_second_model(display, tmp_path, capsys):
    """One display serves all models of a command; a resumed run may have nothing left to ask."""
    tasks, one = write_sums(tmp_path, 3), display()
    take(AddingEngine(), tasks, tmp_path / "out", display=one)
    take(AddingEngine(), tasks, tmp_path / "out", display=one)
    second = contestant_of(AddingEngine(), fingerprint="0" * 64)
    take(second, tasks, tmp_path / "out", display=one)
    output = "".join(capsys.readouterr())
    assert output.count("3/3" if display is not JsonDisplay else '"done": 3') >= 2


@pytest.mark.parametrize("display", [JsonDisplay, PlainDisplay, RichDisplay])
def test_ending_before_anything_was_planned(display, capsys):
    one = display()
    one.end()
    one.end()
    assert "".join(capsys.readouterr()).strip() == ""


def test_auto_is_rich_on_a_terminal_and_plain_elsewhere(monkeypatch):
    master, slave = os.openpty()
    with open(slave, "w") as terminal, monkeypatch.context() as patch:  # noqa: PTH123
        patch.setattr(sys, "stderr", terminal)
        assert isinstance(open_display("auto"), RichDisplay)
        assert isinstance(open_display("plain"), PlainDisplay)
        patch.setattr(sys, "stderr", io.StringIO())
        assert isinstance(open_display("auto"), PlainDisplay)
        assert isinstance(open_display("rich"), RichDisplay)
        assert isinstance(open_display("json"), JsonDisplay)
    os.close(master)


words = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "."]), max_size=9).map(
    " ".join
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(words, words, st.sampled_from(["x", "y"])), min_size=1, max_size=6))
@pytest.mark.parametrize("macro", ["", "side"])
@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
def test_the_running_score_of_a_corpus_metric_is_that_of_the_corpus(name, macro, segments):
    metric = Metric(name, formula=name, macro_over=macro, unit="points")
    records = [
        make_record(
            str(number), segment_statistics(text, [due], "en")[name], metric=name,
            tags={"side": side},
        )
        for number, (text, due, side) in enumerate(segments)
    ]  # fmt: skip
    running_equals_final(metric, records)


scores = st.one_of(
    st.none(), st.floats(0, 1), st.tuples(st.floats(0, 3), st.just(3.0)).map(list)
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(scores, st.sampled_from(["x", "y"])), max_size=8))
@pytest.mark.parametrize("macro", ["", "side"])
def test_the_running_score_of_a_mean_is_the_mean_so_far(macro, values):
    metric = Metric("accuracy", macro_over=macro)
    records = [
        make_record(str(number), value, tags={"side": side})
        for number, (value, side) in enumerate(values)
    ]
    running_equals_final(metric, records)


def running_equals_final(metric, records):
    tally = Tally(make_part(metrics=(metric,), main_metric=metric.name), len(records))
    assert tally.score() == ""
    for count, record in enumerate(records, 1):
        tally.add(record)
        final = statistics(metric, records[:count]).score()
        if any(r.error is None for r in records[:count]):
            assert tally.score().split(" ±")[0] == shown(final, metric.unit)
        else:
            assert tally.score() == ""
            assert math.isnan(final)
    assert tally.count == len(records)
    assert tally.errors == sum(r.error is not None for r in records)


@pytest.mark.parametrize(("right", "n"), [(7, 10), (450, 1000), (0, 5), (5, 5)])
def test_the_half_width_of_a_share_is_the_longer_side_of_wilson(right, n):
    tally = Tally(make_part(), n)
    for number in range(n):
        tally.add(make_record(str(number), float(number < right)))
    low, high = proportion_confint(right, n, method="wilson")
    half = max(high - right / n, right / n - low)
    assert tally.score() == f"{100 * right / n:.1f}% ±{100 * half:.1f}%"


def test_the_half_width_of_graded_scores_follows_their_spread():
    """A Poisson bootstrap of a mean estimates 1.96 · sd / √n; a hundred copies within a quarter."""
    chance = random.Random(7)
    values = [chance.gauss(0.4, 0.1) for _ in range(2000)]
    tally = Tally(make_part(), len(values))
    for number, value in enumerate(values):
        tally.add(make_record(str(number), value))
    shown, half = tally.score().replace("%", "").split(" ±")
    assert float(shown) == pytest.approx(100 * sum(values) / len(values), abs=0.06)
    expected = 196 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    assert float(half) == pytest.approx(expected, rel=0.25, abs=0.06)


def test_one_sample_has_no_half_width():
    tally = Tally(make_part(), 1)
    tally.add(make_record("a"))
    assert tally.score() == "100.0%"
    assert math.isnan(tally.rate())
