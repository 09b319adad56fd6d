"""Paired differences, against statsmodels, scipy, enumeration and exact coverage."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_factory import F1, MACRO, MEAN, records
from scipy import optimize
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from evalsuite.metrics.metric import Metric
from evalsuite.record import Record
from evalsuite.request import Failure
from evalsuite.stats.paired import mcnemar, paired_difference, tango

LOSS = Metric("x", higher_is_better=False, unit="points")


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_statsmodels(gained, lost):
    reference = statsmodels_mcnemar([[7, lost], [gained, 5]], exact=True)
    assert mcnemar(gained, lost) == pytest.approx(min(1.0, reference.pvalue), rel=1e-9)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_a_binomial_test(gained, lost):
    if gained + lost:
        reference = scipy_stats.binomtest(gained, gained + lost).pvalue
        assert mcnemar(gained, lost) == pytest.approx(reference, rel=1e-9)


def test_tango_published_example():
    """Airway hyper-responsiveness before and after transplantation (Bentur et al. 2009): of 21
    children 1 improved and 7 worsened; Fagerland, Lydersen & Laake (2014) give (−0.517, −0.026).
    """
    assert tango(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=0.0005)


@pytest.mark.parametrize(("gained", "lost", "n"), [(3, 9, 40), (0, 4, 25), (40, 20, 160)])
def test_tango_inverts_the_score_test(gained, lost, n):
    """At each limit, the score with the numerically maximised likelihood is ±1.96."""

    def score(delta):
        def loss(lost_share):
            won_share = lost_share + delta
            rest = 1 - won_share - lost_share
            terms = ((gained, won_share), (lost, lost_share), (n - gained - lost, rest))
            return -sum(k * math.log(max(p, 1e-300)) for k, p in terms if k)

        low, high = max(0.0, -delta), (1 - delta) / 2
        best = optimize.minimize_scalar(
            loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
        ).x
        variance = n * (2 * best + delta - delta * delta)
        return (gained - lost - n * delta) / math.sqrt(variance)

    z = NormalDist().inv_cdf(0.975)
    assert [score(limit) for limit in tango(gained, lost, n)] == pytest.approx([z, -z], abs=1e-4)


@pytest.mark.parametrize(("won", "lost"), [(0.1, 0.1), (0.02, 0.1), (0.3, 0.15), (0.01, 0.0)])
def test_tango_covers_the_truth_exactly(won, lost):
    """The exact coverage for n = 30, summed over every outcome of the multinomial."""
    n, covered = 30, 0.0
    for gains in range(n + 1):
        for losses in range(n + 1 - gains):
            low, high = tango(gains, losses, n)
            if low - 1e-9 <= won - lost <= high + 1e-9:
                covered += scipy_stats.multinomial.pmf(
                    [gains, losses, n - gains - losses], n, [won, lost, 1 - won - lost]
                )
    assert covered > 0.93


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_tango_stays_in_range(counts):
    gained, n = counts
    low, high = tango(gained, 0, n)
    assert -1 <= low <= gained / n <= high <= 1


def test_zeros_and_ones_get_the_exact_test():
    a = [1.0] * 30 + [0.0] * 10
    b = [1.0] * 28 + [0.0] * 5 + [1.0] * 7
    found = paired_difference(MEAN, records(a), records(b))
    assert (found.n, found.better, found.worse) == (40, 7, 2)
    assert found.difference == pytest.approx(5 / 40)
    assert found.p_value == pytest.approx(scipy_stats.binomtest(2, 9).pvalue)
    assert (found.low, found.high) == tango(7, 2, 40)


def test_lower_is_better_turns_better_and_worse_not_the_difference():
    found = paired_difference(LOSS, records([1.0, 2.0, 3.0]), records([0.5, 1.0, 4.0]))
    assert found.difference == pytest.approx(-0.5 / 3)
    assert (found.better, found.worse) == (2, 1)


def test_only_samples_that_both_scored_are_compared():
    a = records([1.0, 0.0, 1.0, 1.0])
    b = records([1.0, 1.0, 1.0])
    b[0] = Record(task="t", sample=b[0].sample, error=Failure("engine_failed", ""))
    found = paired_difference(MEAN, a, b)
    assert (found.n, found.a, found.b) == (2, 0.5, 1.0)


def test_nothing_in_common():
    found = paired_difference(MEAN, records([1.0]), [])
    assert found.n == 0
    assert math.isnan(found.p_value)
    assert math.isnan(found.low)


rows = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(
    lambda pair: [float(min(pair)), float(pair[0]), float(pair[1])]
)


def f1_of(total):
    return 1.0 if total[1] + total[2] == 0 else 2 * total[0] / (total[1] + total[2])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(rows, rows), min_size=1, max_size=7))
def test_randomisation_is_full_enumeration_for_few_samples(pairs):
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    observed = abs(f1_of(np.sum(b, 0)) - f1_of(np.sum(a, 0)))
    hits = 0
    for swaps in itertools.product([False, True], repeat=len(pairs)):
        left = np.sum([y if s else x for x, y, s in zip(a, b, swaps, strict=True)], 0)
        right = np.sum([x if s else y for x, y, s in zip(a, b, swaps, strict=True)], 0)
        hits += abs(f1_of(right) - f1_of(left)) >= observed - 1e-9
    found = paired_difference(F1, records(a), records(b))
    assert found.p_value == pytest.approx(hits / 2 ** len(pairs))


@pytest.mark.parametrize("graded", [True, False])
def test_randomisation_agrees_with_scipy(graded):
    """Whether equal moves are drawn together (5 levels) or one by one."""
    rng = np.random.default_rng(1)
    a = rng.integers(0, 5, 200) / 4
    moves = rng.integers(-2, 3, 200) / 4 if graded else rng.normal(0, 0.3, 200)
    b = a + moves - moves.mean() + 0.04
    found = paired_difference(MEAN, records(a.tolist()), records(b.tolist()))
    reference = scipy_stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(y - x, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(2),
    ).pvalue
    assert 0.02 < reference < 0.2
    assert found.p_value == pytest.approx(reference, abs=0.01)


def test_paired_bootstrap_is_the_bootstrap_of_the_differences():
    rng = np.random.default_rng(3)
    a = rng.random(300)
    b = a + rng.normal(0.02, 0.1, 300)
    found = paired_difference(MEAN, records(a.tolist()), records(b.tolist()))
    theirs = scipy_stats.bootstrap(
        (b - a,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(4)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.04 * width)


def test_clusters_are_swapped_and_drawn_as_one():
    rng = np.random.default_rng(5)
    a, b = rng.random(30), rng.random(30) + 0.15
    alone = paired_difference(MEAN, records(a.tolist()), records(b.tolist()))
    passages = np.repeat(np.arange(30), 8)
    copies = paired_difference(
        MEAN,
        records(np.repeat(a, 8).tolist(), clusters=passages),
        records(np.repeat(b, 8).tolist(), clusters=passages),
    )
    assert copies.n == 240
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high))
    assert copies.p_value == pytest.approx(alone.p_value)


def in_two_languages(chinese, english):
    """The same problems in two languages, clustered by problem."""
    count = len(chinese)
    return records([*chinese, *english], ["zh"] * count + ["en"] * count, [*range(count)] * 2)


def test_the_same_change_in_two_languages_is_one_change():
    """Clusters that span the groups of a macro average are drawn and swapped as one."""
    rng = np.random.default_rng(21)
    a, b = rng.random(60).tolist(), (rng.random(60) + 0.08).tolist()
    alone = paired_difference(MEAN, records(a), records(b))
    both = paired_difference(MACRO, in_two_languages(a, a), in_two_languages(b, b))
    assert (both.low, both.high) == pytest.approx((alone.low, alone.high))
    assert both.p_value == pytest.approx(alone.p_value)
    assert both.method == "paired clustered bca bootstrap, randomisation"


@pytest.mark.parametrize("few", [True, False])
def test_swapping_whole_problems_agrees_with_scipy(few):
    """Macro over languages whose answers are correlated within a problem, exact for few."""
    rng = np.random.default_rng(22)
    count = 9 if few else 150
    shared = rng.normal(0.15 if few else 0.025, 0.2, count)
    a = rng.random((2, count))
    b = a + shared + rng.normal(0, 0.05, (2, count))
    found = paired_difference(MACRO, in_two_languages(*a.tolist()), in_two_languages(*b.tolist()))
    reference = scipy_stats.permutation_test(
        (a.mean(axis=0), b.mean(axis=0)),
        lambda x, y, axis: np.mean(y - x, axis=axis),
        permutation_type="samples",
        n_resamples=2**9 if few else 20_000,
        rng=np.random.default_rng(23),
    ).pvalue
    assert 0.02 < reference < 0.5
    assert found.p_value == pytest.approx(reference, abs=1e-9 if few else 0.012)


def test_no_change_is_not_certain_for_zeros_and_ones():
    """Without a discordant pair, Tango's limits are ±z²/(n + z²), n the number of clusters."""
    z = NormalDist().inv_cdf(0.975) ** 2
    macro = records([1.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"])
    found = paired_difference(MACRO, macro, macro)
    assert (found.low, found.high) == pytest.approx((-z / (4 + z), z / (4 + z)))
    spanning = in_two_languages([1.0, 0.0, 1.0], [1.0, 1.0, 0.0])
    found = paired_difference(MACRO, spanning, spanning)
    assert (found.low, found.high) == pytest.approx((-z / (3 + z), z / (3 + z)))
    clustered = records([1.0] * 6, None, [0, 0, 1, 1, 2, 2])
    found = paired_difference(MEAN, clustered, clustered)
    assert (found.low, found.high) == pytest.approx((-z / (3 + z), z / (3 + z)))
    assert (found.p_value, found.method) == (1.0, "tango, effective n, randomisation")


def test_changes_that_cancel_within_each_cluster_are_not_certain():
    ones = in_two_languages([1.0] * 8, [0.0] * 8)
    twos = in_two_languages([0.0] * 8, [1.0] * 8)
    found = paired_difference(MACRO, ones, twos)
    assert (found.better, found.worse) == (8, 8)
    assert (found.low, found.high) == pytest.approx(tango(4, 4, 8))


@pytest.mark.parametrize("metric", [MEAN, F1])
def test_no_change_of_grades_gives_no_interval(metric):
    made = records([[1.0, 2.0, 3.0]] * 9 if metric is F1 else [0.1, 0.5, 0.7] * 3)
    found = paired_difference(metric, made, made)
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_samples_without_a_count_are_compared_but_not_counted():
    ones = records([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    twos = records([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    found = paired_difference(MEAN, ones, twos)
    assert (found.samples, found.n) == (5, 3)
    assert (found.low, found.high) == tango(1, 1, 3)


def test_macro_difference_weighs_subjects_equally():
    tags = ["big"] * 90 + ["small"] * 10
    a = [1.0] * 90 + [0.0] * 10
    b = [1.0] * 81 + [0.0] * 9 + [1.0] * 10
    found = paired_difference(MACRO, records(a, tags), records(b, tags))
    assert (found.a, found.b) == (0.5, 0.95)
    assert found.difference == pytest.approx(0.45)
    assert found.method == "paired stratified bca bootstrap, randomisation"
    assert found.low <= 0.45 <= found.high


def test_a_constant_shift_of_few_samples_is_not_certain():
    few = paired_difference(MEAN, records([0.75, 0.5, 0.25]), records([0.5, 0.25, 0.0]))
    assert few.difference == -0.25
    assert few.p_value == 0.25
    assert math.isnan(few.low)
    many = paired_difference(MEAN, records([0.5] * 100), records([0.25] * 100))
    assert (many.low, many.high) == (-0.25, -0.25)


kinds = st.sampled_from(["binary", "graded", "clustered", "macro", "f1"])


@settings(max_examples=40, deadline=None)
@given(kinds, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30))
def test_swapping_the_runs_negates_the_difference(kind, pairs):
    ones, twos, metric = _pair(kind, pairs)
    forth, back = paired_difference(metric, ones, twos), paired_difference(metric, twos, ones)
    assert back.difference == pytest.approx(-forth.difference, abs=1e-12)
    assert (-back.high, -back.low) == pytest.approx((forth.low, forth.high), abs=1e-9, nan_ok=True)
    assert back.p_value == forth.p_value
    assert (back.better, back.worse) == (forth.worse, forth.better)


@settings(max_examples=40, deadline=None)
@given(kinds, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=30))
def test_a_run_does_not_differ_from_itself(kind, pairs):
    ones, _, metric = _pair(kind, pairs)
    found = paired_difference(metric, ones, list(reversed(ones)))
    assert (found.difference, found.p_value, found.better, found.worse) == (0.0, 1.0, 0, 0)
    known = kind != "f1" and {r.scores["x"] for r in ones} <= {0.0, 1.0}
    assert found.low <= 0 <= found.high if known else math.isnan(found.low)


def _pair(kind, pairs):
    if kind == "binary":
        values = [[float(p[i] > 1) for p in pairs] for i in (0, 1)]
    elif kind == "f1":
        values = [[[float(min(p[i], 2)), float(p[i]), 2.0] for p in pairs] for i in (0, 1)]
    else:
        values = [[p[i] / 4 for p in pairs] for i in (0, 1)]
    tags = [str(i % 3) for i in range(len(pairs))] if kind == "macro" else None
    clusters = [i // 2 for i in range(len(pairs))] if kind == "clustered" else None
    metric = {"f1": F1, "macro": MACRO}.get(kind, MEAN)
    return records(values[0], tags, clusters), records(values[1], tags, clusters), metric


@pytest.mark.slow
def test_differences_cover_the_truth_and_p_values_are_honest():
    """400 experiments without a true difference in F1: coverage and size, ±3 errors."""
    rng = np.random.default_rng(11)
    covered = rejected = 0
    for _ in range(400):
        truth = rng.integers(1, 4, 50)
        runs = []
        for _ in range(2):
            predicted = rng.integers(0, 4, 50)
            hit = rng.binomial(np.minimum(truth, predicted), 0.6)
            runs.append(np.stack([hit, predicted, truth], 1).astype(float).tolist())
        found = paired_difference(F1, records(runs[0]), records(runs[1]))
        covered += found.low <= 0 <= found.high
        rejected += found.p_value <= 0.05
    assert covered / 400 >= 0.917
    assert rejected / 400 <= 0.083
