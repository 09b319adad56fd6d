"""Intervals of one score, against statsmodels, scipy, closed forms and simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import proportion_confint

from evalsuite.errors import RunDamaged
from evalsuite.metrics.formulas import mean
from evalsuite.metrics.metric import Metric
from evalsuite.record import Interval, Record
from evalsuite.request import Failure
from evalsuite.stats.bootstrap import resampled_totals, resamples_for
from evalsuite.stats.interval import estimate, wilson
from evalsuite.stats.sufficient import statistics, units, vectors

MEAN = Metric("x")
F1 = Metric("x", formula="f1")
MACRO = Metric("x", macro_over="subject")


def records(scores, *, tags=None, clusters=None):
    return [
        Record(
            task="t",
            sample=f"{i:06}",
            scores={"x": score},
            tags={"subject": tags[i]} if tags is not None else {},
            cluster=str(clusters[i]) if clusters is not None else "",
        )
        for i, score in enumerate(scores)
    ]


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_statsmodels(counts):
    right, n = counts
    assert wilson(right / n, n) == pytest.approx(
        proportion_confint(right, n, method="wilson"), abs=1e-12
    )


def test_zeros_and_ones_get_wilson():
    found = estimate(MEAN, records([1.0] * 9 + [0.0]))
    low, high = proportion_confint(9, 10, method="wilson")
    assert (found.value, found.n, found.method) == (0.9, 10, "wilson")
    assert (found.low, found.high) == pytest.approx((low, high))


def test_a_failed_sample_is_no_zero():
    failed = Record(task="t", sample="z", error=Failure("engine_failed", "gone"))
    assert estimate(MEAN, [*records([1.0, 1.0]), failed]).value == 1.0
    nothing = estimate(MEAN, [failed])
    assert math.isnan(nothing.value)
    assert nothing.n == 0


def test_plain_numbers_become_sum_and_count():
    assert vectors(MEAN, [{"x": 0.5}, {"x": 2}]).tolist() == [[0.5, 1], [2, 1]]
    assert vectors(F1, [{"x": [1, 2, 3]}]).tolist() == [[1, 2, 3]]
    assert vectors(MEAN, []).shape == (0, 2)


@pytest.mark.parametrize("scores", [[{"x": 1.0}, {"y": 1.0}], [{"x": [1.0, 2.0, 3.0]}, {"x": 1.0}]])
def test_a_missing_or_ragged_statistic_is_named(scores):
    with pytest.raises(RunDamaged, match=r"'x' \(t/b\)"):
        vectors(MEAN, scores, ["t/a", "t/b"])


def test_bootstrap_agrees_with_scipy_bca():
    rng = np.random.default_rng(1)
    values = rng.beta(0.6, 2.0, size=400)
    ours = estimate(MEAN, records(values.tolist()))
    theirs = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", random_state=2
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_bootstrap_agrees_with_scipy_on_a_ratio_of_sums():
    rng = np.random.default_rng(3)
    rows = np.stack([rng.integers(0, 4, 300), rng.integers(4, 9, 300), rng.integers(4, 9, 300)], 1)

    def f1(tp, predicted, gold, axis):
        return 2 * tp.sum(axis) / (predicted.sum(axis) + gold.sum(axis))

    ours = estimate(F1, records(rows.astype(float).tolist()))
    theirs = scipy_stats.bootstrap(
        tuple(rows.T), f1, n_resamples=10_000, paired=True, method="BCa", random_state=4
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(f1(*rows.T, 0))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.04 * width)


@pytest.mark.parametrize("size", [3, 40])
@pytest.mark.parametrize("levels", [2, 1_000_000])
def test_resampled_totals_have_the_variance_of_the_mean(size, levels):
    """The spread of resampled means is s/√n (Miller 2024, eq. 1), for few and for many values."""
    rng = np.random.default_rng(5)
    values = rng.integers(0, levels, size).astype(float)
    values[0], values[1] = 0, 1
    rows = np.stack([values, np.ones(size)], 1)
    totals = resampled_totals(rows, 40_000, rng)
    means = totals[:, 0] / totals[:, 1]
    assert np.all(totals[:, 1] == size - 1)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * means.std() / 200)
    assert means.std() == pytest.approx(values.std(ddof=1) / math.sqrt(size), rel=0.03)


def test_grouping_equal_rows_changes_nothing():
    """Both ways of resampling draw from the same distribution."""
    values = np.repeat([0.0, 0.25, 1.0], [10, 25, 5])
    rows = np.stack([values, np.ones(40)], 1)
    noisy = rows + np.stack([np.arange(40) * 1e-12, np.zeros(40)], 1)
    few = resampled_totals(rows, 20_000, np.random.default_rng(6))[:, 0]
    many = resampled_totals(noisy, 20_000, np.random.default_rng(7))[:, 0].round(6)
    assert scipy_stats.ks_2samp(few, many, method="asymp").pvalue > 0.001


def test_clusters_widen_the_interval():
    """Ten copies of a passage's answer hold no more than one answer."""
    rng = np.random.default_rng(8)
    values = rng.random(40)
    alone = estimate(MEAN, records(values.tolist()))
    copies = records(np.repeat(values, 10).tolist(), clusters=np.repeat(np.arange(40), 10))
    shared = estimate(MEAN, copies)
    assert shared.method == "clustered bca bootstrap"
    assert (shared.low, shared.high) == pytest.approx((alone.low, alone.high))


def test_clustered_zeros_and_ones_do_not_get_wilson():
    found = estimate(MEAN, records([1.0, 0.0, 1.0, 1.0], clusters=[0, 0, 1, 2]))
    assert found.method == "clustered bca bootstrap"


def test_macro_average_and_its_error():
    """The macro mean over subjects, with variance Σ s²/n over G² (stratified sampling)."""
    rng = np.random.default_rng(9)
    sizes, shares = [400, 100, 250], [0.9, 0.4, 0.6]
    drawn = [rng.binomial(1, p, n).astype(float) for p, n in zip(shares, sizes, strict=True)]
    tags = np.repeat(["law", "maths", "史"], sizes)
    found = estimate(MACRO, records(np.concatenate(drawn).tolist(), tags=tags.tolist()))
    half = 1.96 * math.sqrt(sum(d.var(ddof=1) / len(d) for d in drawn)) / 3
    assert found.method == "stratified bca bootstrap"
    assert found.value == pytest.approx(np.mean([d.mean() for d in drawn]))
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.04)


def test_macro_over_one_value_is_a_micro_mean():
    assert estimate(MACRO, records([1.0, 0.0], tags=["law", "law"])).method == "wilson"


def test_one_sample_a_subject_is_not_certain():
    """``--limit`` can leave one sample a subject; its interval must not shrink to a point."""
    values = [1.0] * 12 + [0.0] * 8
    found = estimate(MACRO, records(values, tags=[str(i) for i in range(20)]))
    low, high = proportion_confint(12, 20, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05)


def test_all_right_is_not_certain():
    found = estimate(MACRO, records([1.0] * 20, tags=["a", "b"] * 10))
    assert found.method == "wilson, effective n"
    assert (found.low, found.high) == pytest.approx(proportion_confint(20, 20, method="wilson"))


def test_a_single_unit_has_no_interval():
    found = estimate(MEAN, records([0.4]))
    assert found.value == 0.4
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("value", [math.inf, math.nan, 1e308])
def test_pathological_numbers_neither_crash_nor_pretend(value):
    found = estimate(MEAN, records([value, 1e308, 0.5]))
    assert found == Interval(found.value, found.low, found.high, 3, "", 0.95)
    assert math.isnan(found.low)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)))
def test_the_order_of_records_does_not_matter(order):
    made = records([i / 11 for i in range(12)], clusters=[i // 3 for i in range(12)])
    assert estimate(MEAN, [made[i] for i in order]) == estimate(MEAN, made)


def test_resamples_stay_within_bounds():
    assert resamples_for(10) == 10_000
    assert 2_000 <= resamples_for(200_000) < 10_000
    assert resamples_for(10**9) == 2_000


def test_pooling_keeps_the_score():
    table = statistics(MACRO, records([0.1, 0.5, 0.7, 0.9], tags=["a", "b", "b", "c"]))
    strata = units(table, table.rows, mean)
    assert sum(s.weight for s in strata) == pytest.approx(1)
    pooled = sum(s.weight * float(s.compute(s.rows.sum(0))) for s in strata)
    assert pooled == pytest.approx(table.score())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["skewed", "clustered", "macro"])
def test_intervals_cover_the_truth(kind):
    """95% intervals hold the true value in 95% of repeated experiments (here ±3 errors of 400)."""
    rng = np.random.default_rng(["skewed", "clustered", "macro"].index(kind))
    covered = 0
    for _ in range(400):
        if kind == "skewed":
            truth, made = 0.25, records(rng.beta(0.5, 1.5, 60).tolist())
        elif kind == "clustered":
            rates = np.repeat(rng.beta(2, 2, 50), 4)
            truth = 0.5
            made = records(rng.binomial(1, rates).tolist(), clusters=np.arange(200) // 4)
        else:
            rates = np.repeat([0.9, 0.3, 0.6], [20, 60, 40])
            truth = 0.6
            tags = np.repeat(["a", "b", "c"], [20, 60, 40])
            made = records(rng.binomial(1, rates).tolist(), tags=tags.tolist())
        found = estimate(MACRO if kind == "macro" else MEAN, made)
        covered += found.low <= truth <= found.high
    assert 0.917 <= covered / 400 <= 0.983
