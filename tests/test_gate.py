"""The gate: pass, regression, inconclusive, and what each means in numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs_factory import make_part, make_record, make_run

from evalsuite.compare import compare
from evalsuite.errors import BadOption, UnknownName
from evalsuite.gate import Margin, gate, parse_margin, samples_needed
from evalsuite.metrics.metric import Metric
from evalsuite.stats.paired import tango


def runs(right_before, right_after, n=1000, *, task="quiz", **changes):
    """Two runs of n questions; the candidate gets the last of them wrong."""
    before = [make_record(f"q{i:05}", float(i < right_before), task=task) for i in range(n)]
    after = [make_record(f"q{i:05}", float(i < right_after), task=task) for i in range(n)]
    return make_run("old", before), make_run("new", after, **changes)


def verdict(right_before, right_after, margin="1pt", n=1000, **options):
    return gate(compare(*runs(right_before, right_after, n)), parse_margin(margin), **options)


@pytest.mark.parametrize(
    ("after", "outcome", "code"),
    [
        (700, "pass", 0),
        (900, "pass", 0),
        (699, "pass", 0),
        (695, "inconclusive", 3),
        (600, "regression", 1),
    ],
)
def test_three_answers(after, outcome, code):
    found = verdict(700, after)
    assert (found.outcome, found.exit_code) == (outcome, code)
    assert found.tasks[0].gain == pytest.approx((after - 700) / 1000)


def test_a_significant_loss_within_the_margin_passes():
    found = verdict(700, 690, margin="3pt").tasks[0]
    assert found.high < 0
    assert found.outcome == "pass"


def test_a_loss_of_exactly_the_margin_is_a_regression():
    assert verdict(700, 690, margin="1pt").outcome == "regression"


def test_a_loss_that_may_be_chance_is_inconclusive_and_says_how_many_samples_it_takes():
    found = verdict(7, 6, margin="1pt", n=10).tasks[0]
    assert found.outcome == "inconclusive"
    assert found.needed > 1000
    assert f"{found.needed:,} samples" in found.reason


def test_the_same_answers_to_a_few_questions_are_no_evidence():
    found = verdict(1, 1, n=2)
    assert (found.outcome, found.exit_code) == ("inconclusive", 3)
    assert "[-65.76, +65.76]" in found.tasks[0].reason
    assert verdict(1, 1, margin="66pt", n=2).outcome == "pass"


def in_two_languages(count, *, score=1.0):
    return [
        make_record(f"{i}/{language}", score, tags={"language": language}, cluster=str(i))
        for i in range(count)
        for language in ("zh", "en")
    ]


def test_the_same_macro_average_of_a_few_clusters_is_no_evidence():
    part = make_part(metrics=(Metric("accuracy", macro_over="language"),))
    few, many = (
        gate(
            compare(*(make_run(name, in_two_languages(count), [part]) for name in ("old", "new"))),
            parse_margin("1pt"),
        )
        for count in (2, 400)
    )
    assert (few.outcome, many.outcome) == ("inconclusive", "pass")


def test_the_same_grades_give_no_interval_and_no_verdict():
    part = make_part(metrics=(Metric("accuracy", unit="points"),))
    ours, theirs = (
        make_run(name, [make_record(f"{i}", i / 8) for i in range(9)], [part])
        for name in ("old", "new")
    )
    found = gate(compare(ours, theirs), parse_margin("1pt"))
    assert found.outcome == "inconclusive"
    assert "no score of 9 samples changed" in found.tasks[0].reason


@pytest.mark.parametrize(
    ("template", "score", "outcome"),
    [("none", 0.5, "pass"), ("chatml", 0.5, "inconclusive"), ("none", 0.4, "inconclusive")],
)
def test_the_same_checkpoint_with_the_same_answers_passes_however_few(template, score, outcome):
    ours = make_run("one", [make_record("a"), make_record("b", 0.5)])
    theirs = make_run(
        "one",
        [make_record("a"), make_record("b", score)],
        checkpoint={"chat_template": template},
    )
    assert gate(compare(ours, theirs), parse_margin("0pt")).outcome == outcome


def test_relative_margins_are_shares_of_the_baseline():
    found = verdict(500, 480, margin="10%").tasks[0]
    assert found.margin == pytest.approx(0.05)
    assert found.outcome == "pass"


def test_lower_is_better_turns_the_sign():
    loss = Metric("loss", unit="points", higher_is_better=False)
    part = make_part(metrics=(loss,), main_metric="loss")
    rng = np.random.default_rng(0)
    values = rng.random(200)
    ours = [make_record(f"{i:03}", float(v), metric="loss") for i, v in enumerate(values)]

    def against(shift):
        noise = rng.normal(shift, 0.05, 200)
        theirs = [
            make_record(f"{i:03}", float(v), metric="loss") for i, v in enumerate(values + noise)
        ]
        return gate(
            compare(make_run("old", ours, [part]), make_run("new", theirs, [part])),
            parse_margin("0.1pt"),
        )

    assert against(+0.3).outcome == "regression"
    assert against(-0.3).outcome == "pass"
    assert against(-0.3).tasks[0].gain > 0


def test_missing_answers_are_incomplete_unless_accepted():
    ours, theirs = runs(700, 700)
    records = list(theirs.records())
    records[3] = make_record(records[3].sample, None)
    comparison = compare(ours, make_run("new", records))
    found = gate(comparison, parse_margin("1pt"))
    assert (found.outcome, found.exit_code) == ("incomplete", 3)
    assert "999 of 1,000" in found.tasks[0].reason
    assert gate(comparison, parse_margin("1pt"), min_coverage=0.99).outcome == "pass"


def test_an_unfinished_run_never_passes():
    found = gate(compare(*runs(700, 700, status="interrupted")), parse_margin("1pt"))
    assert (found.outcome, found.exit_code) == ("incomplete", 3)


def test_a_failed_run_is_an_engine_failure_even_with_nothing_to_compare():
    part = make_part(samples=3)
    ours = make_run("old", [make_record(s) for s in "abc"], [part])
    theirs = make_run("new", [make_record(s, None) for s in "abc"], [part], status="failed")
    found = gate(compare(ours, theirs), parse_margin("1pt"))
    assert (found.outcome, found.exit_code) == ("failed", 4)


def test_the_worst_task_decides():
    before = [make_record(f"q{i:04}", 1.0, task=t) for t in ("maths", "law") for i in range(400)]
    after = [
        make_record(f"q{i:04}", float(t == "law" or i > 100), task=t)
        for t in ("maths", "law")
        for i in range(400)
    ]
    comparison = compare(make_run("old", before), make_run("new", after))
    found = gate(comparison, parse_margin("2pt"))
    assert [t.outcome for t in found.tasks] == ["regression", "pass"]
    assert (found.outcome, found.reason) == ("regression", "regression on maths")
    assert gate(comparison, parse_margin("2pt"), ["law"]).outcome == "pass"
    with pytest.raises(UnknownName, match="maths"):
        gate(comparison, parse_margin("2pt"), ["math"])


@pytest.mark.parametrize(
    ("text", "margin"),
    [
        ("1pt", Margin(1.0)),
        ("0.5pt", Margin(0.5)),
        (" 0 pt ", Margin(0.0)),
        ("2%", Margin(0.02, relative=True)),
    ],
)
def test_margins(text, margin):
    assert parse_margin(text) == margin


@pytest.mark.parametrize("text", ["", "1", "pt", "-1pt", "1e9pt", "nanpt", "1pt1", "１pt", "2 %%"])
def test_other_margins_are_refused(text):
    with pytest.raises(BadOption, match="1pt"):
        parse_margin(text)


@given(st.text(max_size=20))
def test_any_text_is_a_margin_or_a_bad_option(text):
    try:
        margin = parse_margin(text)
    except BadOption:
        return
    assert margin.value >= 0


def test_points_are_those_of_the_tables():
    assert Margin(1.0).of(Metric("accuracy"), 0.7) == 0.01
    assert Margin(1.0).of(Metric("bleu", unit="points"), 30.0) == 1.0
    assert Margin(0.02, relative=True).of(Metric("bleu", unit="points"), 30.0) == pytest.approx(0.6)


@pytest.mark.parametrize("coverage", [-0.1, 1.1, math.nan])
def test_coverage_is_a_share(coverage):
    with pytest.raises(BadOption, match="coverage"):
        verdict(1, 1, n=2, min_coverage=coverage)


@pytest.mark.slow
def test_the_promised_number_of_samples_gives_eighty_percent_power():
    """An equal candidate that changes 10% of the answers passes in 80% of runs of that size."""
    rng = np.random.default_rng(4)

    def draw(n):
        moved = rng.multinomial(n, [0.05, 0.05, 0.9])
        return moved[0], moved[1]

    low, high = tango(40, 40, 800)
    n = samples_needed(800, high - low, 0.02, 0.95)
    passed = np.mean([tango(*map(int, draw(n)), n)[0] >= -0.02 for _ in range(1000)])
    assert passed == pytest.approx(0.8, abs=0.05)
