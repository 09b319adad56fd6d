"""Scores and differences over several seeds that answered the same questions.

Seeds and questions are crossed random effects: each seed answers every question, and a score would
come out differently with other seeds as well as with other questions. With S seeds and m questions,
and x the score of a question under a seed, the variance of the mean of all is

    V = (V_seed − V_rest)₊ + V_item
    V_seed = s²(seed means) / S,  V_item = s²(question means) / m,  V_rest = s²(residuals) / (S·m)

where s² are the unbiased mean squares of the two-way layout (Searle, Casella & McCulloch 1992,
"Variance components"; participants × stimuli in Judd, Westfall & Kenny 2012). The first part has
S − 1 degrees of freedom and the second m − 1, so the limits are those of Howe (1974, JASA 69:789):

    mean ± √( t²(S − 1) · (V_seed − V_rest)₊ + t²(m − 1) · V_item )

With three seeds that disagree two degrees of freedom are left, and the interval says so. (One
Student's t with Satterthwaite's degrees of freedom covers only 92% there; these limits cover 95% to
96% whether or not seeds matter, as a test shows.)

A score that is no mean (F1, BLEU) is replaced by its jackknife influence values, which makes it a
mean up to second order. With one seed, nothing is known about other seeds, and the interval is the
one of :mod:`evalsuite.stats`, about questions alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import msgspec
import numpy as np

from evalsuite.metrics.formulas import formula
from evalsuite.metrics.metric import Array
from evalsuite.record import Interval
from evalsuite.stats.interval import LEVEL, interval, wilson
from evalsuite.stats.paired import (
    Difference,
    difference,
    found_difference,
    mcnemar,
    randomisation,
    tango,
)
from evalsuite.stats.sufficient import Statistics, Stratum, units

METHOD = "crossed seeds × questions, howe"


class Spread(msgspec.Struct, frozen=True):
    """The variance of a mean over seeds and questions: each part with its degrees of freedom."""

    seed: float
    item: float
    seeds: int
    questions: int

    @property
    def variance(self) -> float:
        """V above."""
        return self.seed + self.item

    def reach(self, level: float) -> float:
        """Half the width of the interval."""
        from scipy.special import stdtrit

        tail = (1 + level) / 2
        seed, item = (float(stdtrit(df, tail)) for df in (self.seeds, self.questions))
        return math.sqrt(seed**2 * self.seed + item**2 * self.item)

    def p_value(self, gap: float) -> float:
        """Two-sided, of a mean of zero: 1 − the level at which the interval just reaches it."""
        from scipy.optimize import brentq

        def beyond(log_p: float) -> float:
            return self.reach(1 - math.exp(log_p)) - abs(gap)

        least = math.log(1e-12)
        if beyond(least) <= 0:
            return math.exp(least)
        return math.exp(float(brentq(beyond, least, 0.0))) if gap else 1.0


def aligned(tables: Sequence[Statistics]) -> list[Statistics]:
    """The same questions in the same order, with strata and clusters as in the first."""
    common = set.intersection(*(set(table.ids) for table in tables))
    first = tables[0]
    kept = [i for i, sample in enumerate(first.ids) if sample in common]
    ids = tuple(first.ids[i] for i in kept)
    _, stratum = np.unique(first.stratum[kept], return_inverse=True)
    _, cluster = np.unique(first.cluster[kept], return_inverse=True)
    found = []
    for table in tables:
        place = {sample: i for i, sample in enumerate(table.ids)}
        rows = table.rows[[place[sample] for sample in ids]]
        found.append(Statistics(first.metric, ids, rows, stratum, cluster))
    return found


def averaged(tables: Sequence[Statistics]) -> Statistics:
    """One table whose rows are the means of aligned tables' rows."""
    return replace(tables[0], rows=np.mean([table.rows for table in tables], axis=0))


def score(tables: Sequence[Statistics], level: float = LEVEL) -> Interval:
    """The mean score of several seeds, with its interval; one table a seed.

    A share gets Wilson's interval with the effective number of questions p(1 − p)/V and the
    limits' own t (after Dean & Pagano 2015); anything else the limits above.
    """
    if len(tables) == 1:
        return interval(tables[0], level)
    same = aligned(tables)
    value = float(np.mean([table.score() for table in same]))
    n = same[0].n
    if not n or not math.isfinite(value):
        return Interval(math.nan, math.nan, math.nan, n, level=level)
    spread = _spread([table.score() for table in same], [_influence(table) for table in same])
    if all(table.zeros_and_ones for table in same):
        t = spread.reach(level) / math.sqrt(spread.variance) if spread.variance > 0 else 0.0
        confidence = 2 * NormalDist().cdf(t) - 1 if t else level
        share = value * (1 - value)
        effective = share / spread.variance if t and share > 0 else same[0].effective_units
        low, high = wilson(value, max(effective, 1.0), min(confidence, 1 - 1e-12))
        return Interval(value, low, high, n, f"{METHOD}, wilson", level)
    if spread.variance <= 0:
        return Interval(value, math.nan, math.nan, n, METHOD, level)
    reach = spread.reach(level)
    low, high = value - reach, value + reach
    if same[0].metric.unit == "percent":
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(value, low, high, n, METHOD, level)


def change(
    before: Sequence[Statistics], after: Sequence[Statistics], level: float = LEVEL
) -> Difference:
    """The mean paired difference over seeds; ``before[i]`` and ``after[i]`` are of the same seed.

    The p value is that of the limits above. Of zeros and ones it is at least that of exchanging the two answers
    to a question in all seeds at once, which stays exact where few answers changed.
    """
    if len(after) == 1:
        a, b = aligned([before[0], after[0]])
        return difference(a, b, level)
    same = aligned([*before, *after])
    a_tables, b_tables = same[: len(before)], same[len(before) :]
    a, b = averaged(a_tables), averaged(b_tables)
    gaps = [y.score() - x.score() for x, y in zip(a_tables, b_tables, strict=True)]
    gap = float(np.mean(gaps)) if a.n else math.nan
    low = high = p_value = math.nan
    if math.isfinite(gap):
        influences = [
            [v - u for u, v in zip(_influence(x), _influence(y), strict=True)]
            for x, y in zip(a_tables, b_tables, strict=True)
        ]
        spread = _spread(gaps, influences)
        low, high, p_value = _limits(spread, gap, a_tables, b_tables, level)
    a_score, b_score = (
        float(np.mean([table.score() for table in tables])) if a.n else math.nan
        for tables in (a_tables, b_tables)
    )
    return found_difference(
        a, b, (a_score, b_score, gap), (low, high), p_value, method=METHOD, level=level
    )


def _limits(
    spread: Spread,
    gap: float,
    before: Sequence[Statistics],
    after: Sequence[Statistics],
    level: float,
) -> tuple[float, float, float]:
    """Limits and p value of a mean difference; what has no spread is judged by its questions."""
    a, b = averaged(before), averaged(after)
    if spread.variance > 0:
        reach = spread.reach(level)
        p_value = spread.p_value(gap)
        if all(table.zeros_and_ones for table in (*before, *after)):
            p_value = max(p_value, _exchanged(a, b, gap))
        return gap - reach, gap + reach, p_value
    n = a.effective_units
    moved = n if abs(gap) > 0 else 0.0
    p_value = mcnemar(round(moved), 0)
    if all(table.zeros_and_ones for table in (*before, *after)):
        gained, lost = (moved, 0.0) if gap > 0 else (0.0, moved)
        return *tango(gained, lost, n, level), p_value
    return math.nan, math.nan, p_value


def fixed_change(
    before: Sequence[Statistics], after: Sequence[Statistics], level: float = LEVEL
) -> Difference:
    """The same difference for these very checkpoints: only other questions are imagined."""
    same = aligned([*before, *after])
    return difference(averaged(same[: len(before)]), averaged(same[len(before) :]), level)


def _exchanged(a: Statistics, b: Statistics, gap: float) -> float:
    """P value of exchanging a's and b's rows, question by question (a mean's)."""
    width = a.rows.shape[1]
    mean = formula("mean")

    def halves(total: Array) -> Array:
        return np.asarray(mean(total[..., width:]) - mean(total[..., :width]))

    rows = np.hstack([a.rows, b.rows])
    return randomisation(units(a, rows, halves, pool_single=False), width, gap)


def _influence(table: Statistics) -> list[Array]:
    """Jackknife influence of each unit on the score, by stratum: each sums to 0, ``[units]``."""
    found = []
    with np.errstate(all="ignore"):
        for stratum in units(table, table.rows, formula(table.metric.formula)):
            found.append(stratum.weight * _left_out(stratum))
    return found


def _left_out(stratum: Stratum) -> Array:
    """(m − 1)/m × what the score loses without each unit, less the mean of that; ``[units]``."""
    totals = stratum.totals()
    without = stratum.compute(totals[stratum.part] - stratum.rows)
    losses = stratum.compute(totals)[stratum.part] - without
    losses[np.bincount(stratum.part)[stratum.part] == 1] = 0.0
    losses = np.where(np.isfinite(losses), losses, 0.0)
    each = np.bincount(stratum.unit, losses, minlength=stratum.units) / stratum.parts
    return np.asarray((1 - 1 / stratum.units) * (each - each.mean()))


def _spread(scores: Sequence[float], influences: Sequence[Sequence[Array]]) -> Spread:
    """The variance V above from each seed's score and each unit's influence on it."""
    seeds = len(scores)
    item = rest = 0.0
    questions = 0
    for stratum in zip(*influences, strict=True):
        table = np.stack(stratum)  # [seeds, units]
        count = table.shape[1]
        if count < 2:
            continue
        questions += count - 1
        mean = table.mean(axis=0)
        scale = count / (count - 1)
        item += scale * float(np.sum(mean**2))
        rest += scale * float(np.sum((table - mean) ** 2)) / (seeds * (seeds - 1))
    seed = float(np.var(scores, ddof=1)) / seeds
    if item + seed <= 1e-24 or not questions:
        return Spread(0.0, 0.0, 1, 1)
    return Spread(max(seed - rest, 0.0), item, seeds - 1, questions)
