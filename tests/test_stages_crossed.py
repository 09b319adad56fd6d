"""Intervals over seeds and questions, against other ways to compute them and against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evalsuite.metrics.metric import Metric
from evalsuite.record import Record
from evalsuite.stages.crossed import change, fixed_change, score
from evalsuite.stats.interval import interval
from evalsuite.stats.paired import difference
from evalsuite.stats.sufficient import Statistics, statistics

POINTS = Metric("accuracy", unit="points")
SHARE = Metric("accuracy")


def table(values, metric=POINTS, clusters=None):
    rows = np.column_stack([values, np.ones(len(values))])
    _, cluster = np.unique(clusters or range(len(values)), return_inverse=True)
    ids = tuple(f"q{i:04}" for i in range(len(values)))
    return Statistics(metric, ids, rows, np.zeros(len(values), dtype=np.intp), cluster)


def anova(values):
    """Both parts of the grand mean's variance from the textbook's mean squares."""
    seeds, items = values.shape
    grand = values.mean()
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    ms_seed = items * np.sum((rows - grand) ** 2) / (seeds - 1)
    ms_item = seeds * np.sum((columns - grand) ** 2) / (items - 1)
    rest = values - rows[:, None] - columns + grand
    ms_rest = np.sum(rest**2) / ((seeds - 1) * (items - 1))
    return max(ms_seed - ms_rest, 0) / (seeds * items), ms_item / (seeds * items)


def howe(values, level):
    """Half the width of Howe's interval."""
    seeds, items = values.shape
    return np.sqrt(
        sum(
            stats.t.ppf((1 + level) / 2, df) ** 2 * part
            for df, part in zip((seeds - 1, items - 1), anova(values), strict=True)
        )
    )


def crossed(rng, seeds=3, items=50, *, seed=0.6, item=1.0, rest=0.8):
    return (
        rng.normal(0, seed, (seeds, 1))
        + rng.normal(0, item, items)
        + rng.normal(0, rest, (seeds, items))
    )


def test_equals_the_analysis_of_variance():
    values = crossed(np.random.default_rng(1))
    found = score([table(row) for row in values])
    assert found.value == pytest.approx(values.mean())
    reach = howe(values, 0.95)
    assert (found.low, found.high) == pytest.approx((found.value - reach, found.value + reach))


def test_a_difference_is_the_score_of_differences():
    rng = np.random.default_rng(2)
    before, after = crossed(rng), crossed(rng) + 0.5
    found = change([table(row) for row in before], [table(row) for row in after])
    gap = (after - before).mean()
    assert found.difference == pytest.approx(gap)
    assert howe(after - before, 1 - found.p_value) == pytest.approx(abs(gap))


@pytest.mark.parametrize("seed", [0.0, 0.2, 0.6])
def test_intervals_cover_the_truth_and_those_about_questions_alone_do_not(seed):
    """Three seeds, alike or not: 95% of intervals hold the true mean, which is 0."""
    rng = np.random.default_rng(3)
    trials, held, held_by_items = 300, 0, 0
    for _ in range(trials):
        values = crossed(rng, seed=seed)
        found = score([table(row) for row in values])
        held += found.low <= 0 <= found.high
        mean = values.mean(axis=0)
        reach = 1.96 * mean.std(ddof=1) / np.sqrt(len(mean))
        held_by_items += abs(mean.mean()) <= reach
    assert 0.93 <= held / trials <= 0.99
    assert seed < 0.6 or held_by_items / trials < 0.75


def test_p_values_of_no_difference_are_not_too_small():
    """Of zeros and ones as well, where questions are easy for some seeds."""
    rng = np.random.default_rng(4)
    trials, small = 100, 0
    for _ in range(trials):
        chance = np.clip(rng.beta(5, 1, 60) + rng.normal(0, 0.05, (3, 1)), 0, 1)
        sides = [(rng.random((3, 60)) < chance).astype(float) for _ in range(2)]
        tables = [[table(row, SHARE) for row in side] for side in sides]
        small += change(*tables).p_value < 0.05
    assert small / trials <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_one_seed_is_the_interval_about_questions():
    rng = np.random.default_rng(5)
    one, two = (table(rng.random(40) < 0.5, SHARE) for _ in range(2))
    assert score([one]) == interval(one)
    assert change([one], [two]) == difference(one, two)
    assert fixed_change([one], [two]) == difference(one, two)


def test_shares_stay_within_their_bounds_even_without_spread():
    sure = [table([1.0] * 30, SHARE)] * 3
    found = score(sure)
    assert found.high == 1.0
    assert 0.8 < found.low < 1.0
    same = change(sure, sure)
    assert same.p_value == 1.0
    assert same.low < 0 < same.high
    worse = change(sure, [table([0.0] * 30, SHARE)] * 3)
    assert worse.high < 0
    assert worse.p_value < 1e-6


def test_clusters_count_as_one_question():
    rng = np.random.default_rng(6)
    passages = [f"p{i // 10}" for i in range(100)]
    values = np.repeat(rng.normal(0, 1, (1, 10)), 10, axis=1) + rng.normal(0, 0.1, (3, 100))
    alone = score([table(row) for row in values])
    together = score([table(row, clusters=passages) for row in values])
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_a_score_that_is_no_mean_has_the_jackknife_variance():
    """F1 over two seeds that are the same: the variance of questions alone, by leaving each out."""
    rng = np.random.default_rng(7)
    metric = Metric("f1", formula="f1", statistic="overlap")
    rows = np.column_stack([rng.integers(0, 4, 80), rng.integers(3, 6, 80), rng.integers(3, 6, 80)])
    records = [
        Record(task="t", sample=f"q{i:03}", scores={"overlap": [float(v) for v in row]})
        for i, row in enumerate(rows)
    ]
    same = statistics(metric, records)
    found = score([same, same])

    def f1(total):
        return 2 * total[0] / (total[1] + total[2])

    total = rows.sum(axis=0)
    without = np.array([f1(total - row) for row in rows])
    variance = 79 / 80 * np.sum((without - without.mean()) ** 2)
    assert found.value == pytest.approx(f1(total))
    half = (found.high - found.low) / 2
    assert half / stats.t.ppf(0.975, 79) == pytest.approx(np.sqrt(variance), rel=0.02)
