"""Medians and ratios of timings: coverage, drift, and too few rounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evalsuite.stats.medians import between_order_statistics, median, ratio


def test_the_interval_covers_the_true_ratio_as_often_as_it_says():
    """Log-normal noise with outliers in a seventh of the rounds; binomial slack for 300 trials."""
    rng = np.random.default_rng(1)
    trials, covered = 300, {"paired": 0, "apart": 0}
    for _ in range(trials):
        rounds = []
        for _ in range(2):
            times = np.exp(rng.normal(0, 0.03, 7)) * np.where(
                rng.random(7) < 1 / 7, 1 + rng.exponential(0.2, 7), 1
            )
            rounds.append([[t] for t in times.tolist()])
        for name in covered:
            found = ratio(*rounds, paired=name == "paired")
            covered[name] += found.low <= 1 <= found.high
    for name, count in covered.items():
        assert 0.915 <= count / trials <= 0.995, name


@pytest.mark.parametrize("n", [5, 6, 8, 11, 20])
def test_the_limits_of_a_median_are_binomial(n):
    """Of uniform ranks, P(X(d) < median < X(n+1-d)) by scipy; the interval lies between two of them."""
    from scipy.stats import binom

    values = [float(v) for v in range(1, n + 1)]
    low, high = between_order_statistics(values, 0.95)
    covers = {d: 1 - 2 * binom.cdf(d - 1, n, 0.5) for d in range(1, n // 2 + 1)}
    sure = max((d for d, share in covers.items() if share >= 0.95), default=1)
    assert sure <= low < sure + 1
    assert high == pytest.approx(n + 1 - low)


def test_drift_of_the_machine_cancels_in_pairs():
    drift = [1.0, 1.3, 1.7, 2.2, 2.6, 3.0]
    a = [[1.0 * d] for d in drift]
    b = [[1.1 * d] for d in drift]
    paired = ratio(a, b, paired=True)
    assert (paired.value, paired.low, paired.high) == pytest.approx((1.1, 1.1, 1.1))
    apart = ratio(a, b, paired=False)
    assert apart.high - apart.low > 0.5


def test_repeats_within_a_round_are_no_rounds():
    one_round = [[1.0, 1.1, 1.2, 1.3, 1.4, 1.5]]
    found = median(one_round)
    assert found.value == pytest.approx(1.25)
    assert math.isnan(found.low)
    assert math.isnan(ratio(one_round, one_round, paired=True).low)


def test_scale_does_not_matter():
    rng = np.random.default_rng(2)
    a, b = ([[x] for x in rng.uniform(1, 2, 8).tolist()] for _ in range(2))
    found = ratio(a, b, paired=False)
    scaled = ratio([[1000 * x[0]] for x in a], [[1000 * x[0]] for x in b], paired=False)
    assert scaled.low == pytest.approx(found.low)
    assert scaled.high == pytest.approx(found.high)
    assert found.low < found.value < found.high


def test_nothing_measured_is_no_number():
    assert math.isnan(median([]).value)
    assert math.isnan(ratio([], [[1.0]], paired=False).value)
    assert math.isnan(ratio([[0.0]], [[1.0]], paired=False).value)
