"""Tables of finished runs on a terminal."""

from __future__ import annotations

import contextlib
import io
import math
import re
import unicodedata
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from runs_factory import make_part, make_record, make_run
from statsmodels.stats.proportion import proportion_confint

from evalsuite.errors import UnknownName
from evalsuite.metrics.metric import Metric
from evalsuite.record import Interval
from evalsuite.report.tables import print_breakdown, print_results, shown, shown_interval

TRICKS = [
    "[/b]",
    "[bold]x",
    "[link=file:x]x",
    ":fire:",
    "\x1b[2J",
    "\u202e",
    "\ud800",
    "[red",
    "\\[x]",
]
ACTING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


def cells(output: str, start: str) -> list[str]:
    """The cells of the one row that begins with this cell."""
    rows = [re.split(" *[│┃] *", line.strip("│┃ ")) for line in output.splitlines()]
    [found] = [row for row in rows if row[0] == start]
    return found


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.7126, "percent", "71.3%"),
        (1.0, "percent", "100.0%"),
        (0.0, "percent", "0.0%"),
        (31.4159, "points", "31.42"),
        (math.nan, "percent", "–"),
        (math.nan, "points", "–"),
    ],
)
def test_scores_as_people_read_them(value, unit, text):
    assert shown(value, unit) == text


def test_intervals_as_people_read_them():
    assert shown_interval(Interval(0.7126, 0.6801, 0.7412, 9), "percent") == "71.3% [68.0, 74.1]"
    assert shown_interval(Interval(31.4, 29.95, 33.0, 9), "points") == "31.40 [29.95, 33.00]"
    assert shown_interval(Interval(0.5, math.nan, math.nan, 1), "percent") == "50.0%"
    assert shown_interval(Interval(math.nan, math.nan, math.nan, 0), "percent") == "–"


def test_the_table_of_a_run(capsys):
    parts = [
        make_part("quiz", variant="zh", num_fewshot=5, samples=5),
        make_part("text", metrics=(Metric("ter"), Metric("accuracy"))),
    ]
    records = [
        make_record("a", answer="A"),
        make_record("b", answer="B", truncated=True),
        make_record("c", 0.0),
        make_record("d", None),
    ]
    records += [
        msgspec.structs.replace(make_record("a", task="text"), scores={"accuracy": 1.0, "ter": 0.5})
    ]
    run = make_run("model", records, parts)
    run.manifest.warnings = ("quiz: look here", "\x1b[2Jgone")
    print_results(run.manifest, Path("runs") / "model-run")
    output = capsys.readouterr().out
    low, high = proportion_confint(2, 3, method="wilson")
    score = f"66.7% [{100 * low:.1f}, {100 * high:.1f}]"
    assert cells(output, "quiz") == ["quiz", "zh", "5", "accuracy", score, "3", "1", "1", "66.7%"]
    assert cells(output, "text")[3] == "accuracy", "the main metric comes first"
    assert output.index("accuracy", output.index("text")) < output.index(
        "ter ", output.index("text")
    )
    assert "warning: quiz: look here\nwarning: ␛[2Jgone\nrun: runs/model-run\n" in output
    assert "model  ·  model-run" in output


def test_a_run_without_results_is_an_empty_table(capsys):
    run = make_run("model", [make_record("a")])
    run.manifest.results = {}
    print_results(run.manifest, run.path)
    assert "run: runs/model-run" in capsys.readouterr().out


def test_the_breakdown_by_a_tag(capsys):
    records = [
        make_record("a", tags={"subject": "法学", "level": "1"}),
        make_record("b", 0.0, tags={"subject": "法学", "level": "2"}),
        make_record("c", 1.0, tags={"subject": "astronomy", "level": "2"}),
    ]
    run = make_run("model", records)
    print_breakdown(run.manifest, "subject")
    rows = [
        re.split(" *[│┃] *", line.strip("│┃ "))
        for line in capsys.readouterr().out.splitlines()
        if "quiz" in line
    ]
    low, high = proportion_confint(1, 2, method="wilson")
    assert [row[1] for row in rows] == ["astronomy", "法学"]
    assert rows[1][2:] == [f"50.0% [{100 * low:.1f}, {100 * high:.1f}]", "2"]
    with pytest.raises(UnknownName, match="did you mean 'subject'"):
        print_breakdown(run.manifest, "subjet")


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("terminal", [True, False])
def test_names_are_text_and_never_markup(trick, terminal, capsys, monkeypatch):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "200")
    part = make_part(f"quiz/{trick}")
    record = make_record("a", task=part.name, tags={"subject": trick})
    run = make_run("model", [record], [part], checkpoint={"name": trick})
    run.manifest.warnings = (trick,)
    print_results(run.manifest, Path(f"runs/{trick}"))
    print_breakdown(run.manifest, "subject")
    output = capsys.readouterr().out
    if terminal:
        assert "\x1b[" in output
        assert "\x1b[2J" not in output
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    assert not ACTING.search(plain)
    if trick.isascii() and trick.isprintable():
        assert plain.count(trick) >= 6


@settings(max_examples=40, deadline=None)
@example("\xad\u0600\u180e\u200d\U000e0001\ufff9")
@given(
    st.text(
        st.characters(exclude_categories=()) | st.sampled_from("\ud800\x00\x1b\u202e🙂"),
        max_size=30,
    )
)
def test_any_name_can_be_shown(name):
    part = make_part(f"quiz/{name}")
    record = make_record("a", task=part.name, tags={"subject": name})
    run = make_run("model", [record], [part], checkpoint={"name": name})
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
        print_results(run.manifest, Path("runs"))
        print_breakdown(run.manifest, "subject")
    text = written.getvalue()
    assert text.strip()
    acting = [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert not set(acting) - set("\n\u200c\u200d")


def test_a_pipe_is_wide_enough_for_every_column(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    run = make_run("model", [make_record("a", task="classification_zh")])
    print_results(run.manifest, run.path)
    assert len(cells(capsys.readouterr().out, "classification_zh")) == 9
