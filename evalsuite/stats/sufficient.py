"""Records as arrays: one row of sufficient statistics a sample, with its stratum and its cluster.

Rows stand in the order of the sample ids, so nothing computed from them depends on the order in
which a run finished its samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import RunDamaged
from evalsuite.metrics.formulas import formula
from evalsuite.metrics.metric import Array, Formula, Metric
from evalsuite.record import Record

Scores = Mapping[str, float | list[float]]


@dataclass(frozen=True)
class Statistics:
    """The scored samples of one metric.

    Attributes:
        ids: sample ids, sorted, ``[n]``.
        rows: sufficient statistics, ``[n, k]``.
        stratum: number of the ``macro_over`` value of each sample, ``[n]``; zeros without one.
        cluster: number of the cluster of each sample, ``[n]``; all different without clusters.
    """

    metric: Metric
    ids: tuple[str, ...]
    rows: Array
    stratum: NDArray[np.intp]
    cluster: NDArray[np.intp]

    @property
    def strata(self) -> int:
        """How many values the macro average runs over."""
        return int(self.stratum.max(initial=-1)) + 1

    @property
    def clustered(self) -> bool:
        """Whether any two samples share a cluster."""
        return len(np.unique(self.cluster)) < len(self.ids)

    @cached_property
    def spanning(self) -> bool:
        """Whether any cluster has samples under several values of ``macro_over``."""
        within = len(np.unique(self.cluster * self.strata + self.stratum))
        return within > len(np.unique(self.cluster))

    @property
    def weights(self) -> Array:
        """The count of each sample in a mean, ``[n]``, 0 where it has no part; else ones."""
        return self.rows[:, 1] if self.metric.formula == "mean" else np.ones(len(self.ids))

    @property
    def n(self) -> int:
        """How many samples have a part in the score: for a mean, those with a count."""
        return int(np.count_nonzero(self.weights))

    @property
    def shares(self) -> Array:
        """The part of each sample in the score, ``[n]``, summing to 1."""
        totals = np.bincount(self.stratum, self.weights)
        return self.weights / (self.strata * totals[self.stratum])

    @property
    def effective_units(self) -> float:
        """The number of equally weighted units whose mean has the same variance (Kish 1965)."""
        return float(max(1.0, 1 / np.sum(np.bincount(self.cluster, self.shares) ** 2)))

    @property
    def zeros_and_ones(self) -> bool:
        """Whether this is a mean of zeros and ones, over those samples that have a part in it."""
        if self.metric.formula != "mean":
            return False
        values, counts = self.rows[:, 0], self.rows[:, 1]
        whole = ((values == 0) | (values == 1)) & ((counts == 0) | (counts == 1))
        return bool(np.all(whole & (values <= counts)))

    @property
    def binary(self) -> bool:
        """Whether this is a micro mean of zeros and ones over independent samples."""
        return self.strata <= 1 and not self.clustered and self.zeros_and_ones

    def score(self) -> float:
        """The metric over all samples; nan for none."""
        if not self.ids:
            return float("nan")
        compute = formula(self.metric.formula)
        with np.errstate(all="ignore"):
            totals = sums(self.rows, self.stratum, self.strata)
            return float(np.mean(compute(totals)))

    def item_scores(self) -> Array:
        """The metric of each sample alone, ``[n]``."""
        with np.errstate(all="ignore"):
            return np.asarray(formula(self.metric.formula)(self.rows), dtype=np.float64)


def vectors(
    metric: Metric, scores: Sequence[Scores], name: Callable[[int], str] = "sample {}".format
) -> Array:
    """Sufficient statistics ``[n, k]`` from ``Record.scores``; a plain number v becomes ``[v, 1]``.

    Args:
        name: what to call a row, by its number, in an error.

    Raises:
        RunDamaged: a sample lacks the statistic, or holds another number of values than the rest.
    """
    values = [entry.get(metric.source) for entry in scores]
    if all(isinstance(value, (int, float)) for value in values):
        numbers = np.fromiter(values, dtype=np.float64, count=len(values))
        return np.stack([numbers, np.ones(len(values))], axis=1)
    rows: list[list[float]] = []
    for index, value in enumerate(values):
        row = value if isinstance(value, list) else [value, 1.0] if value is not None else []
        if not row or len(row) != len(rows[0] if rows else row):
            fault = "no" if not row else f"{len(row)} values, not {len(rows[0])}, of"
            raise RunDamaged(
                f"a scored sample has {fault} statistic {metric.source!r}",
                where=name(index),
                hint="score the run again with `evalsuite score RUN`",
            )
        rows.append([float(number) for number in row])
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows else 2)


def statistics(metric: Metric, records: Iterable[Record]) -> Statistics:
    """The scored records (those without an error) as arrays."""
    scored = sorted((r for r in records if r.error is None), key=lambda r: r.sample)
    ids = tuple(r.sample for r in scored)
    rows = vectors(
        metric, [r.scores for r in scored], lambda at: f"{scored[at].task}/{scored[at].sample}"
    )
    if metric.per_cluster:
        return _by_cluster(metric, scored, rows)
    return Statistics(
        metric=metric,
        ids=ids,
        rows=rows,
        stratum=_numbered(
            r.tags.get(metric.macro_over, "") if metric.macro_over else "" for r in scored
        ),
        cluster=_clusters(scored, ids),
    )


def _by_cluster(metric: Metric, scored: list[Record], rows: Array) -> Statistics:
    """One row a cluster: the metric of its samples together, of which a mean is taken."""
    named: dict[str, list[int]] = {}
    for place, record in enumerate(scored):
        named.setdefault(record.cluster or record.sample, []).append(place)
    ids = tuple(sorted(named))
    totals = [rows[named[name]].sum(axis=0) for name in ids]
    values = formula(metric.formula)(np.stack(totals)) if ids else np.zeros(0)
    over = metric.macro_over
    return Statistics(
        metric=msgspec.structs.replace(metric, formula="mean", per_cluster=False),
        ids=ids,
        rows=np.stack([values, np.ones(len(ids))], axis=1),
        stratum=_numbered(
            scored[named[name][0]].tags.get(over, "") if over else "" for name in ids
        ),
        cluster=np.arange(len(ids)),
    )


def _clusters(scored: list[Record], ids: tuple[str, ...]) -> NDArray[np.intp]:
    """The number of each sample's cluster; a sample without one is its own."""
    if not any(r.cluster for r in scored) and all(one != other for one, other in pairwise(ids)):
        return np.arange(len(ids))
    return _numbered(("cluster", r.cluster) if r.cluster else ("sample", r.sample) for r in scored)


def sums(rows: Array, group: NDArray[np.intp], groups: int) -> Array:
    """Sum the rows of each group: ``[n, k]`` → ``[groups, k]``."""
    total = np.zeros((groups, rows.shape[1]))
    np.add.at(total, group, rows)
    return total


@dataclass(frozen=True)
class Stratum:
    """Independent units, samples or clusters, that are resampled among themselves.

    Attributes:
        rows: statistics summed over the samples that a unit has in a part, ``[cells, k]``.
        weight: its share in the score.
        compute: from summed rows to a part's score; the stratum's is their unweighted mean.
        unit: number of the unit of each row, ``[cells]``.
        part: number of the part of each row, ``[cells]``; zeros unless clusters span the values of
            a macro average, which then are the parts.
    """

    rows: Array
    weight: float
    compute: Formula
    unit: NDArray[np.intp]
    part: NDArray[np.intp]

    @cached_property
    def units(self) -> int:
        """How many units there are."""
        return int(self.unit.max(initial=-1)) + 1

    @cached_property
    def parts(self) -> int:
        """How many scores are averaged."""
        return int(self.part.max(initial=-1)) + 1

    def totals(self) -> Array:
        """The statistics of each part, ``[parts, k]``."""
        return sums(self.rows, self.part, self.parts)

    def score(self, totals: Array) -> Array:
        """From statistics of the parts, ``[..., parts, k]``, to the stratum's score, ``[...]``."""
        return np.asarray(self.compute(totals).mean(axis=-1))

    def table(self) -> Any:
        """:func:`spread` of its rows, ``[units, parts·k]``."""
        return spread(self.rows, self.unit, self.part, (self.units, self.parts))


def spread(
    rows: Array, unit: NDArray[np.intp], part: NDArray[np.intp], shape: tuple[int, int]
) -> Any:
    """One row a unit, its parts side by side: ``[cells, k]`` → ``[units, parts·k]``.

    A SciPy sparse array where less than a quarter would be filled, so that memory stays in
    proportion to the samples; otherwise a NumPy array.
    """
    units, parts = shape
    width = rows.shape[1]
    if units * parts <= 4 * len(rows):
        filled = np.zeros((units, parts, width))
        filled[unit, part] = rows
        return filled.reshape(units, parts * width)
    from scipy.sparse import csr_array

    column = part[:, None] * width + np.arange(width)
    places = (np.repeat(unit, width), column.ravel())
    return csr_array((rows.ravel(), places), shape=(units, parts * width))


def units(
    table: Statistics, rows: Array, compute: Formula, *, pool_single: bool = True
) -> list[Stratum]:
    """Sum samples into clusters, and clusters into strata that are resampled apart.

    Each value of the macro average is a stratum, unless a cluster spans several: then all clusters
    are one stratum, in which each carries its statistics under every value.

    Strata of a single unit say nothing about their own spread. With ``pool_single`` they become one
    stratum whose units are their scores (collapsed strata, Wolter 2007, §2.5: the error is
    overstated rather than missed).
    """
    if table.spanning:
        pairs, cell = np.unique(table.cluster * table.strata + table.stratum, return_inverse=True)
        unit, part = np.divmod(pairs, table.strata)
        return [Stratum(sums(rows, cell, len(pairs)), 1.0, compute, unit, part)]
    strata: list[Stratum] = []
    single: list[float] = []
    for number in range(table.strata):
        inside = np.flatnonzero(table.stratum == number)
        clusters, cluster = np.unique(table.cluster[inside], return_inverse=True)
        summed = sums(rows[inside], cluster, len(clusters))
        if len(summed) == 1 and pool_single:
            single.append(float(compute(summed)[0]))
        else:
            strata.append(_one_part(summed, 1 / table.strata, compute))
    if single:
        values = np.array([[value, 1.0] for value in single])
        strata.append(_one_part(values, len(single) / table.strata, formula("mean")))
    return strata


def _one_part(rows: Array, weight: float, compute: Formula) -> Stratum:
    count = len(rows)
    return Stratum(rows, weight, compute, np.arange(count), np.zeros(count, dtype=np.intp))


def _numbered(values: Iterable[object]) -> NDArray[np.intp]:
    number: dict[object, int] = {}
    return np.array([number.setdefault(v, len(number)) for v in values], dtype=np.intp)
