"""Intervals of one score, against statsmodels, scipy, closed forms and simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_factory import F1, MACRO, MEAN, records
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import proportion_confint

from evalsuite.errors import RunDamaged
from evalsuite.metrics.formulas import mean
from evalsuite.record import Interval, Record
from evalsuite.request import Failure
from evalsuite.stats.bootstrap import resampled_totals, resamples_for
from evalsuite.stats.interval import estimate, wilson
from evalsuite.stats.sufficient import spread, statistics, units, vectors


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
        vectors(MEAN, scores, ["t/a", "t/b"].__getitem__)


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
    totals = np.concatenate(list(resampled_totals(rows, 40_000, rng)))
    means = totals[:, 0] / totals[:, 1]
    assert np.all(totals[:, 1] == size - 1)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * means.std() / 200)
    assert means.std() == pytest.approx(values.std(ddof=1) / math.sqrt(size), rel=0.03)


def test_grouping_equal_rows_changes_nothing():
    """Both ways of resampling draw from the same distribution."""
    values = np.repeat([0.0, 0.25, 1.0], [10, 25, 5])
    rows = np.stack([values, np.ones(40)], 1)
    noisy = rows + np.stack([np.arange(40) * 1e-12, np.zeros(40)], 1)

    def drawn(table, seed):
        return np.concatenate(list(resampled_totals(table, 20_000, np.random.default_rng(seed))))

    few, many = drawn(rows, 6)[:, 0], drawn(noisy, 7)[:, 0].round(6)
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


def in_both_languages(chinese, english):
    """The same problems in two languages, clustered by problem; None where one was not asked."""
    asked = [
        (score, language, number)
        for language, scores in (("zh", chinese), ("en", english))
        for number, score in enumerate(scores)
        if score is not None
    ]
    scores, tags, clusters = zip(*asked, strict=True)
    return records(scores, tags=tags, clusters=clusters)


def test_the_same_answers_in_two_languages_hold_no_more_than_in_one():
    """Clusters that span the groups of a macro average are drawn as one."""
    values = np.random.default_rng(15).random(120).tolist()
    alone = estimate(MEAN, records(values))
    both = estimate(MACRO, in_both_languages(values, values))
    assert (both.value, both.n) == (pytest.approx(alone.value), 240)
    assert (both.low, both.high) == pytest.approx((alone.low, alone.high))
    assert both.method == "clustered bca bootstrap"


def test_clusters_across_groups_agree_with_scipy():
    """Correlated languages, some problems asked in one only: a bootstrap of whole problems."""
    rng = np.random.default_rng(16)
    ease = rng.normal(size=200)
    chinese, english = (1 / (1 + np.exp(-ease - rng.normal(at, 0.5, 200))) for at in (0.5, -1))
    asked = np.stack([rng.random(200) < 0.9, rng.random(200) < 0.5])

    def macro(zh, en, zh_asked, en_asked, axis):
        means = [(zh * zh_asked).sum(axis) / zh_asked.sum(axis)]
        means += [(en * en_asked).sum(axis) / en_asked.sum(axis)]
        return (means[0] + means[1]) / 2

    sides = [
        [float(v) if there else None for v, there in zip(values, mask, strict=True)]
        for values, mask in zip((chinese, english), asked, strict=True)
    ]
    some = asked.any(axis=0)
    ours = estimate(MACRO, in_both_languages(*sides))
    theirs = scipy_stats.bootstrap(
        (chinese[some], english[some], *asked[:, some].astype(float)),
        macro,
        n_resamples=20_000,
        paired=True,
        method="BCa",
        rng=np.random.default_rng(17),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.n == asked.sum()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_groups_that_a_resample_may_miss_keep_the_interval():
    """Twelve subjects with a sample each, two of them about one passage."""
    values = np.linspace(0.1, 0.9, 12)
    made = records(values.tolist(), tags=[str(i) for i in range(12)], clusters=[0, *range(11)])
    found = estimate(MACRO, made)
    clusters = np.array([values[:2].mean(), *values[2:]])
    half = 1.96 * clusters.std(ddof=1) / math.sqrt(11)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)


cells = st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30)


@given(cells)
def test_a_sparse_table_holds_what_a_dense_one_does(places):
    """One row a cluster, the groups side by side, whichever way it is stored."""
    unit, part = np.array(sorted(places)).T
    rows = np.stack([np.arange(1.0, len(unit) + 1), np.ones(len(unit))], 1)
    found = spread(rows, unit, part, (10, 10))
    expected = np.zeros((10, 20))
    for row, i, j in zip(rows, unit, part, strict=True):
        expected[i, 2 * j : 2 * j + 2] = row
    assert ((found if isinstance(found, np.ndarray) else found.toarray()) == expected).all()
    assert (np.eye(10) @ found == expected).all()


def test_many_groups_and_clusters_take_no_more_room_than_their_samples():
    """A full table of 100,000 clusters in 50,000 groups would take 80 GB."""
    sample = np.arange(200_000)
    rows = np.ones((200_000, 2))
    found = spread(rows, sample // 2, sample % 50_000, (100_000, 50_000))
    assert found.data.nbytes + found.indices.nbytes + found.indptr.nbytes < 8 * rows.nbytes


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


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_all_right_counts_clusters_not_samples(right):
    """Two languages, ten problems, all right (or all wrong): as sure as ten answers make us."""
    found = estimate(MACRO, in_both_languages([right] * 10, [right] * 10))
    assert (found.n, found.method) == (20, "wilson, effective n")
    expected = proportion_confint(10 * right, 10, method="wilson")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_effective_units_of_unequal_clusters():
    """Nine samples about one passage and one about another are Kish's 10² / (9² + 1²) units."""
    found = estimate(MEAN, records([1.0] * 10, clusters=[0] * 9 + [1]))
    low, _ = proportion_confint(100 / 82, 100 / 82, method="wilson")
    assert (found.low, found.high) == (pytest.approx(low), 1.0)


def test_one_group_all_right_and_one_all_wrong_is_not_certain():
    found = estimate(MACRO, records([1.0, 1.0, 0.0, 0.0], tags=["a", "a", "b", "b"]))
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx(proportion_confint(2, 4, method="wilson"))


def test_equal_grades_have_no_interval():
    """Without spread, grades do not say how much the next would differ."""
    found = estimate(MEAN, records([0.3] * 8))
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_samples_without_a_count_are_no_evidence():
    """``[passed, demanded]``: of 96 prompts 47 demand something, and 40 of those pass."""
    made = records([[1.0, 1.0]] * 40 + [[0.0, 1.0]] * 7 + [[0.0, 0.0]] * 49)
    found = estimate(MEAN, made)
    assert (found.value, found.n) == (40 / 47, 47)
    assert (found.low, found.high) == pytest.approx(proportion_confint(40, 47, method="wilson"))
    assert estimate(MEAN, made[-49:]).n == 0
    clustered = records([[1.0, 1.0]] * 4 + [[0.0, 0.0]] * 9, clusters=[*range(4), *range(9)])
    found = estimate(MEAN, clustered)
    assert (found.n, found.low) == (4, pytest.approx(proportion_confint(4, 4, method="wilson")[0]))


def test_other_formulas_count_the_scored_samples():
    assert estimate(F1, records([[0.0, 0.0, 0.0], [1.0, 2.0, 1.0]])).n == 2


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
@pytest.mark.parametrize("kind", ["skewed", "clustered", "macro", "spanning"])
def test_intervals_cover_the_truth(kind):
    """95% intervals hold the true value in 95% of repeated experiments (here ±3 errors of 400)."""
    rng = np.random.default_rng(["skewed", "clustered", "macro", "spanning"].index(kind))
    covered = 0
    for _ in range(400):
        if kind == "skewed":
            truth, made = 0.25, records(rng.beta(0.5, 1.5, 60).tolist())
        elif kind == "clustered":
            rates = np.repeat(rng.beta(2, 2, 50), 4)
            truth = 0.5
            made = records(rng.binomial(1, rates).tolist(), clusters=np.arange(200) // 4)
        elif kind == "spanning":
            rates, truth = rng.beta(2, 2, 80), 0.5
            made = in_both_languages(*rng.binomial(1, rates, (2, 80)).astype(float).tolist())
        else:
            rates = np.repeat([0.9, 0.3, 0.6], [20, 60, 40])
            truth = 0.6
            tags = np.repeat(["a", "b", "c"], [20, 60, 40])
            made = records(rng.binomial(1, rates).tolist(), tags=tags.tolist())
        found = estimate(MACRO if kind in ("macro", "spanning") else MEAN, made)
        covered += found.low <= truth <= found.high
    assert 0.917 <= covered / 400 <= 0.983
