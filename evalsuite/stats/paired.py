"""Two runs that answered the same questions, compared question by question."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist

import msgspec
import numpy as np

from evalsuite.metrics.formulas import formula
from evalsuite.metrics.metric import Array, Metric
from evalsuite.record import Record
from evalsuite.stats.bootstrap import CELLS, SEED, bca_interval, distinct, resamples_for
from evalsuite.stats.interval import LEVEL, bootstrap_name
from evalsuite.stats.sufficient import Statistics, Stratum, statistics, units

_ENUMERATED = 12
"""Up to so many differing units, all 2^m swaps are tried instead of a sample of them."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How b differs from a on the samples that both have a score for.

    Attributes:
        n: samples compared.
        a: score of a on those samples; likewise ``b``.
        difference: ``b − a``, in the metric's own unit; positive is a higher score, not always a
            better one.
        low: lower confidence limit of the difference; nan where it cannot be known.
        p_value: two-sided, of no difference; nan for no samples.
        method: how interval and p value were made.
        better: samples on which b is better, in the metric's direction; likewise ``worse``.
    """

    metric: str
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
    two answers to a question (or to a whole cluster) at random.

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
    items = changes(a, b)
    low = high = p_value = math.nan
    method = ""
    if a.binary and b.binary and a.ids:
        gained = int(np.sum(b.rows[:, 0] > a.rows[:, 0]))
        lost = int(np.sum(b.rows[:, 0] < a.rows[:, 0]))
        low, high = tango(gained, lost, len(a.ids), level)
        p_value, method = mcnemar(gained, lost), "tango, exact mcnemar"
    elif math.isfinite(gap):
        low, high, p_value = _resampled(a, b, gap, level)
        method = f"paired {bootstrap_name(a)}, randomisation"
    return Difference(
        metric=a.metric.name,
        n=len(a.ids),
        a=a_score,
        b=b_score,
        difference=gap,
        low=low,
        high=high,
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


def tango(gained: int, lost: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a paired difference of shares, ``(gained − lost) / n``.

    Tango (1998), Statistics in Medicine 17:891–908: the differences that the score test, with the
    other probability at its restricted maximum-likelihood value, does not reject.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    observed = (gained - lost) / n

    def limit(outside: float, inside: float) -> float:
        for _ in range(64):
            middle = (outside + inside) / 2
            if abs(_tango_score(gained, lost, n, middle)) > z:
                outside = middle
            else:
                inside = middle
        return inside

    return limit(-1.0, observed), limit(1.0, observed)


def _tango_score(gained: int, lost: int, n: int, delta: float) -> float:
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
) -> tuple[float, float, float]:
    width = a.rows.shape[1]
    compute = formula(a.metric.formula)

    def halves(total: Array) -> Array:
        return np.asarray(compute(total[..., width:]) - compute(total[..., :width]))

    joint = np.hstack([a.rows, b.rows])
    p_value = randomisation(units(a, joint, halves, pool_single=False), width, gap)
    low, high = bca_interval(units(a, joint, halves), level)
    if low == high != 0 and p_value > 1 - level:
        # A few units that all moved by the same amount: no spread to resample, no certainty.
        low = high = math.nan
    return low, high, p_value


def randomisation(strata: Sequence[Stratum], width: int, gap: float, seed: int = SEED) -> float:
    """Two-sided p value of approximate randomisation (Noreen 1989; Riezler & Maxwell 2005).

    Each unit's two answers are swapped with probability one half. With few differing units all
    swaps are enumerated and the p value is exact; otherwise it is (1 + hits) / (1 + resamples).

    Args:
        strata: rows ``[units, 2·width]``, the statistics of a and then of b.
        gap: the observed difference.
    """
    differing = [_differing(stratum.rows, width) for stratum in strata]
    count = sum(len(rows) for rows in differing)
    if count == 0:
        return 1.0
    exact = count <= _ENUMERATED
    resamples = 2**count if exact else resamples_for(count)
    rng = np.random.default_rng(seed)
    swapped = np.zeros(resamples)
    used = 0
    with np.errstate(all="ignore"):
        for stratum, rows in zip(strata, differing, strict=True):
            total = stratum.rows.sum(axis=0)
            if exact:
                bits = (np.arange(resamples)[:, None] >> np.arange(used, used + len(rows))) & 1
                moved = bits.astype(np.float64) @ rows
                used += len(rows)
            else:
                moved = _random_swaps(rows, resamples, rng)
            swapped += stratum.weight * stratum.compute(total + np.hstack([moved, -moved]))
    hits = int(np.sum(np.abs(swapped) >= abs(gap) - 1e-9 * max(abs(gap), 1e-3)))
    return hits / resamples if exact else (1 + hits) / (1 + resamples)


def _differing(rows: Array, width: int) -> Array:
    """What a swap adds to a's total, for the units where the two answers differ."""
    moves = rows[:, width:] - rows[:, :width]
    return moves[np.any(moves != 0, axis=1)]


def _random_swaps(moves: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Sums of a random half of the moves, ``[resamples, k]``; equal moves are drawn together."""
    total = np.zeros((resamples, moves.shape[1]))
    if not len(moves):
        return total
    kinds, counts = distinct(moves)
    few = len(kinds) * 8 <= len(moves)
    table = kinds if few else moves
    step = max(1, CELLS // len(table))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        if few:
            taken = rng.binomial(counts, 0.5, size=(size, len(table))).astype(np.float64)
        else:
            packed = rng.integers(0, 256, size=(size, -(-len(table) // 8)), dtype=np.uint8)
            taken = np.unpackbits(packed, axis=1, count=len(table)).astype(np.float64)
        total[start : start + size] = taken @ table
    return total
