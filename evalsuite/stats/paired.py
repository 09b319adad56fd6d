"""Two runs that answered the same questions, compared question by question."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np

from evalsuite.metrics.formulas import formula
from evalsuite.metrics.metric import Array, Metric
from evalsuite.record import Record
from evalsuite.stats.bootstrap import SEED, bca_interval, blocks, flat, grouped, resamples_for
from evalsuite.stats.interval import LEVEL, bootstrap_name
from evalsuite.stats.sufficient import Statistics, Stratum, spread, statistics, units

_ENUMERATED = 12
"""Up to so many differing units, all 2^m swaps are tried instead of a sample of them."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How b differs from a on the samples that both have a score for.

    Attributes:
        samples: samples compared: those that both runs have a score for.
        n: how many of them have a part in the metric; a mean may give a sample no count.
        a: score of a on those samples; likewise ``b``.
        difference: ``b − a``, in the metric's own unit; positive is a higher score, not always a
            better one.
        low: lower confidence limit of the difference; nan where it cannot be known.
        p_value: two-sided, of no difference; nan for no samples.
        method: how interval and p value were made.
        better: samples on which b is better, in the metric's direction; likewise ``worse``.
    """

    metric: str
    samples: int
    n: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    level: float
    p_value: float
    method: str
    better: int
    worse: int


def paired_difference(
    metric: Metric,
    a_records: Iterable[Record],
    b_records: Iterable[Record],
    level: float = LEVEL,
) -> Difference:
    """Compare two runs of one task on the samples that both scored.

    A micro mean of independent zeros and ones gets Tango's score interval and the exact McNemar
    test. Everything else gets a paired BCa bootstrap and approximate randomisation, which swaps the
    two answers to a question (or to a whole cluster, under every value of a macro average) at
    random.

    Differences without spread cannot be resampled. Zeros and ones then get Tango's interval with
    the effective number of units, which is ±z²/(n + z²) where no score changed. For other metrics
    the limits are nan where no score changed, or too few did for a significant difference.

    Raises:
        RunDamaged: a scored sample lacks the metric's statistic.
    """
    a, b = pair(metric, a_records, b_records)
    return difference(a, b, level)


def pair(
    metric: Metric, a_records: Iterable[Record], b_records: Iterable[Record]
) -> tuple[Statistics, Statistics]:
    """Statistics of both runs on their common scored samples, row by row the same sample.

    Tags and clusters are taken from a, so that both fall into the same strata.
    """
    by_id = {r.sample: r for r in b_records if r.error is None}
    common = [r for r in a_records if r.error is None and r.sample in by_id]
    partners = [
        msgspec.structs.replace(by_id[r.sample], tags=r.tags, cluster=r.cluster) for r in common
    ]
    return statistics(metric, common), statistics(metric, partners)


def difference(a: Statistics, b: Statistics, level: float = LEVEL) -> Difference:
    """:func:`paired_difference` of statistics that are already paired row by row."""
    a_score, b_score = a.score(), b.score()
    gap = b_score - a_score
    low = high = p_value = math.nan
    method = ""
    paired = np.array_equal(a.weights, b.weights)
    if math.isfinite(gap) and a.binary and b.binary and paired:
        gained = int(np.sum(b.rows[:, 0] > a.rows[:, 0]))
        lost = int(np.sum(b.rows[:, 0] < a.rows[:, 0]))
        low, high = tango(gained, lost, a.n, level)
        p_value, method = mcnemar(gained, lost), "tango, exact mcnemar"
    elif math.isfinite(gap):
        low, high, p_value, method = _resampled(a, b, gap, level)
    return found_difference(
        a, b, (a_score, b_score, gap), (low, high), p_value, method=method, level=level
    )


def found_difference(
    a: Statistics,
    b: Statistics,
    scores: tuple[float, float, float],
    limits: tuple[float, float],
    p_value: float,
    *,
    method: str,
    level: float,
) -> Difference:
    """What was computed of two paired tables, with the counts that only the tables know.

    Args:
        scores: of a, of b, and their difference.
    """
    items = changes(a, b)
    return Difference(
        metric=a.metric.name,
        samples=len(a.ids),
        n=a.n,
        a=scores[0],
        b=scores[1],
        difference=scores[2],
        low=limits[0],
        high=limits[1],
        level=level,
        p_value=p_value,
        method=method,
        better=int(np.sum(items > 0)),
        worse=int(np.sum(items < 0)),
    )


def changes(a: Statistics, b: Statistics) -> Array:
    """By how much b is better than a on each sample, ``[n]``, in the metric's direction."""
    with np.errstate(all="ignore"):
        gain = b.item_scores() - a.item_scores()
    return gain if a.metric.higher_is_better else -gain


def tango(gained: float, lost: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a paired difference of shares, ``(gained − lost) / n``.

    Tango (1998), Statistics in Medicine 17:891–908: the differences that the score test, with the
    other probability at its restricted maximum-likelihood value, does not reject. Counts may be
    fractional.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    observed = min(max((gained - lost) / n, -1.0), 1.0)

    def limit(outside: float, inside: float) -> float:
        for _ in range(64):
            middle = (outside + inside) / 2
            if abs(_tango_score(gained, lost, n, middle)) > z:
                outside = middle
            else:
                inside = middle
        return inside

    return limit(-1.0, observed), limit(1.0, observed)


def _tango_score(gained: float, lost: float, n: float, delta: float) -> float:
    a = 2 * n
    b = -gained - lost + (2 * n - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    lost_share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * lost_share + delta * (1 - delta))
    distance = gained - lost - n * delta
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided McNemar test: are gains and losses equally likely (McNemar 1947)?"""
    from scipy.special import bdtr

    if gained == lost:
        return 1.0
    return float(min(1.0, 2 * bdtr(min(gained, lost), gained + lost, 0.5)))


def _resampled(
    a: Statistics, b: Statistics, gap: float, level: float
) -> tuple[float, float, float, str]:
    """Limits, p value and method of a difference by resampling."""
    width = a.rows.shape[1]
    compute = formula(a.metric.formula)

    def halves(total: Array) -> Array:
        return np.asarray(compute(total[..., width:]) - compute(total[..., :width]))

    joint = np.hstack([a.rows, b.rows])
    p_value = randomisation(units(a, joint, halves, pool_single=False), width, gap)
    low, high = bca_interval(units(a, joint, halves), level)
    method = f"paired {bootstrap_name(a)}, randomisation"
    if not flat(low, high):
        return low, high, p_value, method
    if a.zeros_and_ones and b.zeros_and_ones and np.array_equal(a.weights, b.weights):
        n, moves = a.effective_units, b.rows[:, 0] - a.rows[:, 0]
        gained, lost = (n * float(a.shares[moves == by].sum()) for by in (1, -1))
        return *tango(gained, lost, n, level), p_value, "tango, effective n, randomisation"
    if gap == 0 or p_value > 1 - level:
        low = high = math.nan
    return low, high, p_value, method


def randomisation(strata: Sequence[Stratum], width: int, gap: float, seed: int = SEED) -> float:
    """Two-sided p value of approximate randomisation (Noreen 1989; Riezler & Maxwell 2005).

    Each unit's two answers are swapped with probability one half. With few differing units all
    swaps are enumerated and the p value is exact; otherwise it is (1 + hits) / (1 + resamples).

    Args:
        strata: rows ``[cells, 2·width]``, the statistics of a and then of b.
        gap: the observed difference.
    """
    tables = [_moves(stratum, width) for stratum in strata]
    count = sum(table.shape[0] for table in tables)
    if count == 0:
        return 1.0
    exact = count <= _ENUMERATED
    resamples = 2**count if exact else resamples_for(count)
    rng = np.random.default_rng(seed)
    swapped = np.zeros(resamples)
    used = 0
    with np.errstate(all="ignore"):
        for stratum, table in zip(strata, tables, strict=True):
            totals, done = stratum.totals(), 0
            if exact:
                swaps = _every_swap(table, used, resamples)
            else:
                swaps = _random_swaps(table, resamples, rng)
            for block in swaps:
                moved = block.reshape(len(block), stratum.parts, width)
                scores = stratum.score(totals + np.concatenate([moved, -moved], axis=-1))
                swapped[done : done + len(block)] += stratum.weight * scores
                done += len(block)
            used += table.shape[0]
    hits = int(np.sum(np.abs(swapped) >= abs(gap) - 1e-9 * max(abs(gap), 1e-3)))
    return hits / resamples if exact else (1 + hits) / (1 + resamples)


def _moves(stratum: Stratum, width: int) -> Any:
    """What a swap adds to a's totals, ``[m, parts·width]``, for the m units that differ."""
    moves = stratum.rows[:, width:] - stratum.rows[:, :width]
    differing = np.unique(stratum.unit[np.any(moves != 0, axis=1)])
    kept = np.isin(stratum.unit, differing)
    unit = np.searchsorted(differing, stratum.unit[kept])
    return spread(moves[kept], unit, stratum.part[kept], (len(differing), stratum.parts))


def _every_swap(moves: Any, used: int, resamples: int) -> Iterator[Array]:
    """Sums of each subset of the moves, which are bits ``used`` and up of the resample's number."""
    start = 0
    for size in blocks(moves, resamples):
        number = np.arange(start, start + size)[:, None]
        bits = (number >> np.arange(used, used + moves.shape[0])) & 1
        yield bits.astype(np.float64) @ moves
        start += size


def _random_swaps(moves: Any, resamples: int, rng: np.random.Generator) -> Iterator[Array]:
    """Sums of a random half of the moves, blocks of ``[resamples, k]``."""
    rows, counts = grouped(moves)
    for size in blocks(rows, resamples):
        if counts is not None:
            taken = rng.binomial(counts, 0.5, size=(size, len(rows))).astype(np.float64)
        else:
            packed = rng.integers(0, 256, size=(size, -(-rows.shape[0] // 8)), dtype=np.uint8)
            taken = np.unpackbits(packed, axis=1, count=rows.shape[0]).astype(np.float64)
        yield taken @ rows
