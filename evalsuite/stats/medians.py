"""Medians of timings, and ratios of two, with intervals over rounds.

Timings have long right tails (another process wakes up), so the median is taken, and what was
repeated within a round shares its machine's mood, so rounds are the units.

One median has the interval between order statistics, interpolated (Hettmansperger & Sheather 1986):
over five rounds it covers 93%, over eight and more 95%, outliers or not. A bootstrap of one median
jumps between the same few values instead and covers 88% over seven rounds. The ratio of two medians
has a percentile bootstrap, in which each is resampled by itself; from five rounds on it covers 95 to
98%. With fewer rounds there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from evalsuite.stats.bootstrap import SEED
from evalsuite.stats.interval import LEVEL

LEAST = 5
"""Rounds below which there is no interval."""
_RESAMPLES = 5_000

Rounds = Sequence[Sequence[float]]
"""The repeats of each round."""


class Spread(msgspec.Struct, frozen=True):
    """An estimate with its limits, nan where there are none."""

    value: float
    low: float
    high: float


def median(rounds: Rounds, level: float = LEVEL) -> Spread:
    """The median over rounds of the median of each; nan where nothing was measured."""
    values = sorted(_by_round(rounds).tolist())
    if not values:
        return Spread(math.nan, math.nan, math.nan)
    low, high = between_order_statistics(values, level) if len(values) >= LEAST else (math.nan,) * 2
    return Spread(float(np.median(values)), low, high)


def ratio(baseline: Rounds, candidate: Rounds, *, paired: bool, level: float = LEVEL) -> Spread:
    """Candidate ÷ baseline.

    Args:
        paired: whether both were measured side by side in the same rounds; then the median of the
            rounds' ratios is taken, from which the machine's drift cancels. Otherwise the ratio of
            the medians, each resampled by itself.
    """
    a, b = _by_round(baseline), _by_round(candidate)
    if not (len(a) and len(b)) or min(a.min(), b.min()) <= 0:
        return Spread(math.nan, math.nan, math.nan)
    if paired and len(a) == len(b):
        return median([[value] for value in (b / a).tolist()], level)
    value = float(np.median(b) / np.median(a))
    if min(len(a), len(b)) < LEAST:
        return Spread(value, math.nan, math.nan)
    replicates = _resampled(b, 1) / _resampled(a, 0)
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Spread(value, float(low), float(high))


def between_order_statistics(ordered: Sequence[float], level: float) -> tuple[float, float]:
    """The interval of a median: from the d-th smallest to the d-th greatest, d interpolated.

    Where even the extremes cover less than ``level``, they are the limits.
    """
    n = len(ordered)
    depth = 1
    while depth + 1 <= n // 2 and _coverage(n, depth + 1) >= level:
        depth += 1
    outer, inner = _coverage(n, depth), _coverage(n, depth + 1)
    share = max(0.0, (outer - level) / (outer - inner))
    inwards = (n - depth) * share / (depth + (n - 2 * depth) * share)
    low = (1 - inwards) * ordered[depth - 1] + inwards * ordered[depth]
    high = (1 - inwards) * ordered[n - depth] + inwards * ordered[n - depth - 1]
    return low, high


def _coverage(n: int, depth: int) -> float:
    """How often the median lies between the ``depth``-th smallest and greatest of ``n``."""
    return 1 - 2 * sum(math.comb(n, k) for k in range(depth)) / (1 << n)


def _by_round(rounds: Rounds) -> Any:
    return np.array([np.median(repeats) for repeats in rounds if len(repeats)], dtype=np.float64)


def _resampled(values: Any, number: int) -> Any:
    """Medians of bootstrap samples."""
    draws = np.random.default_rng([SEED, number]).integers(
        0, len(values), (_RESAMPLES, len(values))
    )
    return np.median(values[draws], axis=1)
