"""One score with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist

from evalsuite.metrics.formulas import formula
from evalsuite.metrics.metric import Metric
from evalsuite.record import Interval, Record
from evalsuite.stats.bootstrap import bca_interval, flat
from evalsuite.stats.sufficient import Statistics, statistics, units

LEVEL = 0.95


def estimate(metric: Metric, records: Iterable[Record], level: float = LEVEL) -> Interval:
    """The metric over the scored records, with a two-sided interval.

    A micro mean of independent zeros and ones gets Wilson's interval; everything else a BCa
    bootstrap, by clusters where samples share one, and within each value of ``macro_over`` unless
    clusters span several. ``Interval.method`` says which.

    Without spread there is nothing to resample, and still no certainty. Zeros and ones, and shares
    that are all 0 or all 1, then get Wilson's interval with Kish's effective number of units: a
    unit's share varies no more than one answer that is right or wrong. For any other metric the
    limits are nan, since the data do not say them.

    Raises:
        RunDamaged: a scored sample lacks the metric's statistic.
    """
    return interval(statistics(metric, records), level)


def interval(table: Statistics, level: float = LEVEL) -> Interval:
    """:func:`estimate` of statistics already laid out as arrays."""
    n = table.n
    value = table.score()
    if not math.isfinite(value):
        return Interval(value, math.nan, math.nan, n, level=level)
    if table.binary:
        low, high = wilson(value, n, level)
        return Interval(value, low, high, n, "wilson", level)
    low, high = bca_interval(units(table, table.rows, formula(table.metric.formula)), level)
    if not flat(low, high):
        return Interval(value, low, high, n, bootstrap_name(table), level)
    if table.zeros_and_ones or (table.metric.unit == "percent" and value in (0.0, 1.0)):
        low, high = wilson(value, table.effective_units, level)
        return Interval(value, low, high, n, "wilson, effective n", level)
    return Interval(value, math.nan, math.nan, n, bootstrap_name(table), level)


def wilson(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a binomial share (Wilson 1927); ``n`` may be fractional."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return low, high


def bootstrap_name(table: Statistics) -> str:
    """``bca bootstrap``, with what it respects."""
    stratified = ["stratified"] if table.strata > 1 and not table.spanning else []
    clustered = ["clustered"] if table.clustered else []
    return " ".join([*stratified, *clustered, "bca bootstrap"])
