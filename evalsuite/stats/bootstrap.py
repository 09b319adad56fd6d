"""The bootstrap on sums: a resample re-weights rows of sufficient statistics.

In a stratum of m units, m − 1 are drawn, which makes the bootstrap's variance of a mean equal to
s²/m for any m (Rao & Wu 1988; with m draws it is too small by (m − 1)/m, and by half for m = 2).
The interval is BCa (Efron 1987), with the several-sample acceleration of Davison & Hinkley (1997),
eq. 5.25 and §5.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.metrics.metric import Array
from evalsuite.stats.sufficient import Stratum

SEED = 20240913
CELLS = 1 << 20
"""How many weights are held at a time (8 MiB)."""
_WORK = 1 << 29
"""Upper bound of units × resamples, as long as the minimum of resamples is kept."""


def resamples_for(units: int) -> int:
    """10,000 resamples, fewer for very many units, never less than 2,000."""
    return int(np.clip(_WORK // max(units, 1), 2_000, 10_000))


def distinct(rows: Array) -> tuple[Array, NDArray[np.intp]]:
    """Distinct rows in order of appearance, and how often each occurs."""
    _, first, counts = np.unique(rows, axis=0, return_index=True, return_counts=True)
    order = np.argsort(first)
    return rows[first[order]], counts[order]


def grouped(table: Any) -> tuple[Any, NDArray[np.intp] | None]:
    """The distinct rows and their counts where they are few; else the table itself and None."""
    if isinstance(table, np.ndarray):
        kinds, counts = distinct(table)
        if len(kinds) * 8 <= len(table):
            return kinds, counts
    return table, None


def blocks(table: Any, resamples: int) -> Iterator[int]:
    """Sizes of the blocks in which resamples of a table fit into memory."""
    step = max(1, CELLS // max(table.shape))
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def resampled_totals(table: Any, resamples: int, rng: np.random.Generator) -> Iterator[Array]:
    """Totals of ``m − 1`` rows drawn with replacement: ``[m, k]`` → blocks of ``[resamples, k]``.

    Equal rows are drawn together from a multinomial distribution, which is exact, and cheap for
    metrics with few distinct rows.
    """
    units = table.shape[0]
    rows, counts = grouped(table)
    for size in blocks(rows, resamples):
        if counts is not None:
            weights = rng.multinomial(units - 1, counts / units, size=size)
        else:
            drawn = rng.integers(0, units, size=(size, units - 1))
            drawn += np.arange(size)[:, None] * units
            weights = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
        yield weights.astype(np.float64) @ rows


def _resampled_scores(stratum: Stratum, resamples: int, rng: np.random.Generator) -> Array:
    """Scores of resamples of the stratum, ``[resamples]``.

    A part of which a resample drew nothing is left out of that resample's mean.
    """
    if stratum.parts == 1:
        totals = resampled_totals(stratum.table(), resamples, rng)
        return np.concatenate([stratum.compute(block) for block in totals])
    scores = []
    for block in resampled_totals(stratum.table(), resamples, rng):
        cells = block.reshape(len(block), stratum.parts, -1)
        there = np.any(cells != 0, axis=-1)
        summed = np.where(there, stratum.compute(cells), 0.0).sum(axis=-1)
        scores.append(summed / there.sum(axis=-1))
    return np.concatenate(scores)


def bca_interval(strata: Sequence[Stratum], level: float, seed: int = SEED) -> tuple[float, float]:
    """BCa interval of the weighted mean of the strata's scores.

    Returns:
        (nan, nan) where there is only one unit, which says nothing about the spread.
    """
    count = sum(stratum.units for stratum in strata)
    if count < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    resamples = resamples_for(count)
    replicates = np.zeros(resamples)
    observed = 0.0
    with np.errstate(all="ignore"):
        for stratum in strata:
            score = float(stratum.score(stratum.totals()))
            observed += stratum.weight * score
            drawn = _resampled_scores(stratum, resamples, rng) if stratum.units > 1 else score
            replicates += stratum.weight * drawn
        acceleration = _acceleration(strata)
    replicates = replicates[np.isfinite(replicates)]
    if not len(replicates):
        return float("nan"), float("nan")
    low, high = np.quantile(replicates, _bca_levels(replicates, observed, acceleration, level))
    return float(low), float(high)


def flat(low: float, high: float) -> bool:
    """Whether an interval has no width beyond rounding, or no limits at all."""
    return not high - low > 1e-12 * max(1.0, abs(low))


def _bca_levels(
    replicates: Array, observed: float, acceleration: float, level: float
) -> tuple[float, float]:
    normal = NormalDist()
    tolerance = 1e-12 * max(1.0, abs(observed))
    below = np.mean(replicates < observed - tolerance)
    equal = np.mean(np.abs(replicates - observed) <= tolerance)
    edge = 0.5 / len(replicates)
    bias = normal.inv_cdf(float(np.clip(below + equal / 2, edge, 1 - edge)))
    levels = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + normal.inv_cdf(tail)
        levels.append(normal.cdf(bias + z / max(1 - acceleration * z, 1e-6)))
    return levels[0], levels[1]


def _acceleration(strata: Sequence[Stratum]) -> float:
    """Σ l³/m³ / 6 (Σ l²/m²)^{3/2} over the jackknife influence values l of all strata."""
    cubes = squares = 0.0
    for stratum in strata:
        if stratum.units < 2:
            continue
        change = _left_out(stratum)
        influence = stratum.weight * (1 - 1 / stratum.units) * (change.mean() - change)
        influence = influence[np.isfinite(influence)]
        cubes += float(np.sum(influence**3))
        squares += float(np.sum(influence**2))
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0


def _left_out(stratum: Stratum) -> Array:
    """By how much the score changes without each unit, ``[units]``."""
    totals = stratum.totals()
    changes = stratum.compute(totals[stratum.part] - stratum.rows)
    changes -= stratum.compute(totals)[stratum.part]
    # What stands alone in its part leaves no part behind.
    changes[np.bincount(stratum.part)[stratum.part] == 1] = 0.0
    return np.bincount(stratum.unit, changes) / stratum.parts
