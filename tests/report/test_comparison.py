"""Comparisons and verdicts on a terminal."""

from __future__ import annotations

import re

import pytest
from runs_factory import make_part, make_record, make_run

from evalsuite.compare import compare
from evalsuite.errors import UnknownName
from evalsuite.gate import gate, parse_margin
from evalsuite.report.comparison import print_comparison, print_verdict

HOSTILE = "\x1b[2J[/b]:fire:\u202e"


def two_runs(name: str = "two", subject: str = "law"):
    """20 questions; the second run loses q0 to q6 and gains q19."""
    ours = [make_record(f"q{n}", float(n < 19), tags={"subject": subject}) for n in range(20)]
    theirs = [make_record(f"q{n}", float(n >= 7), tags={"subject": subject}) for n in range(20)]
    return make_run("one", ours), make_run(name, theirs)


def rows(output: str) -> list[list[str]]:
    lines = [line for line in output.splitlines() if "│" in line]
    return [[cell.strip() for cell in line.strip()[1:-1].split("│")] for line in lines]


def test_the_row_of_a_metric(capsys):
    comparison = compare(*two_runs())
    print_comparison(comparison)
    output = capsys.readouterr().out
    assert "two against one" in output
    [row] = rows(output)
    assert row[:4] == ["quiz", "accuracy", "95.0%", "65.0%"]
    assert re.fullmatch(r"-30\.0 \[-\d+\.\d, [-+]\d+\.\d\]", row[4])
    # McNemar's exact test: 8 changes, 7 of them losses: 2 · (1 + 8) / 2⁸.
    assert float(row[5]) == pytest.approx(2 * 9 / 256, abs=5e-4)
    assert row[6:] == ["20", "1", "7"]
    assert "quiz: worse on q0, q1, q2, q3, q4 and 2 more" in output


def test_the_breakdown_and_an_unknown_tag(capsys):
    comparison = compare(*two_runs())
    print_comparison(comparison, by="subject")
    found = rows(capsys.readouterr().out)
    assert [row[2] for row in found] == ["", "law"]
    assert found[0][3:5] == found[1][3:5]
    with pytest.raises(UnknownName, match="did you mean 'subject'"):
        print_comparison(comparison, by="subjet")


def test_hostile_names_are_text(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    comparison = compare(*two_runs(HOSTILE, HOSTILE))
    print_comparison(comparison, by="subject")
    output = capsys.readouterr().out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", output)
    assert output.count("␛[2J[/b]:fire:") >= 2


def test_warnings_are_shown(capsys):
    ours, theirs = two_runs()
    truncated = make_run("two", [make_record("q0", truncated=True), *list(theirs.records())[1:]])
    print_comparison(compare(ours, truncated))
    assert re.search(r"warning: quiz: .*1 of 20 answers cut off", capsys.readouterr().out)


@pytest.mark.parametrize(("margin", "outcome"), [("50pt", "pass"), ("0pt", "regression")])
def test_a_verdict_is_one_line_a_task_and_one_for_all(margin, outcome, capsys):
    ours = [make_record(f"q{n}", 1.0) for n in range(60)]
    theirs = [make_record(f"q{n}", float(n >= 12)) for n in range(60)]
    part = make_part()
    comparison = compare(make_run("one", ours, [part]), make_run("two", theirs, [part]))
    verdict = gate(comparison, parse_margin(margin))
    print_verdict(verdict, comparison)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(f"gate: {outcome}: ")
    assert re.match(rf"{outcome.upper()} +quiz accuracy: ", lines[-2])
