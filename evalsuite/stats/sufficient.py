"""Records as arrays: one row of sufficient statistics a sample, with its stratum and its cluster.

Rows stand in the order of the sample ids, so nothing computed from them depends on the order in
which a run finished its samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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

    @property
    def binary(self) -> bool:
        """Whether this is a micro mean of zeros and ones over independent samples."""
        values, counts = self.rows[:, 0], self.rows[:, -1]
        return (
            self.metric.formula == "mean"
            and self.strata <= 1
            and not self.clustered
            and bool(np.all((values == 0) | (values == 1)) and np.all(counts == 1))
        )

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


def vectors(metric: Metric, scores: Sequence[Scores], names: Sequence[str] = ()) -> Array:
    """Sufficient statistics ``[n, k]`` from ``Record.scores``; a plain number v becomes ``[v, 1]``.

    Args:
        names: what to call each row in an error.

    Raises:
        RunDamaged: a sample lacks the statistic, or holds another number of values than the rest.
    """
    rows: list[list[float]] = []
    for index, entry in enumerate(scores):
        value = entry.get(metric.source)
        row = value if isinstance(value, list) else [value, 1.0] if value is not None else []
        if not row or len(row) != len(rows[0] if rows else row):
            fault = "no" if not row else f"{len(row)} values, not {len(rows[0])}, of"
            raise RunDamaged(
                f"a scored sample has {fault} statistic {metric.source!r}",
                where=names[index] if names else f"sample {index}",
                hint="score the run again with `evalsuite score RUN`",
            )
        rows.append([float(number) for number in row])
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows else 2)


def statistics(metric: Metric, records: Iterable[Record]) -> Statistics:
    """The scored records (those without an error) as arrays."""
    scored = sorted((r for r in records if r.error is None), key=lambda r: r.sample)
    strata = [r.tags.get(metric.macro_over, "") if metric.macro_over else "" for r in scored]
    alone = [("cluster", r.cluster) if r.cluster else ("sample", r.sample) for r in scored]
    return Statistics(
        metric=metric,
        ids=tuple(r.sample for r in scored),
        rows=vectors(metric, [r.scores for r in scored], [f"{r.task}/{r.sample}" for r in scored]),
        stratum=_numbered(strata),
        cluster=_numbered(alone),
    )


def sums(rows: Array, group: NDArray[np.intp], groups: int) -> Array:
    """Sum the rows of each group: ``[n, k]`` → ``[groups, k]``."""
    total = np.zeros((groups, rows.shape[1]))
    np.add.at(total, group, rows)
    return total


@dataclass(frozen=True)
class Stratum:
    """Independent units that are resampled among themselves.

    Attributes:
        rows: statistics summed over each unit, ``[units, k]``.
        weight: its share in the score.
        compute: from summed rows to the stratum's score.
    """

    rows: Array
    weight: float
    compute: Formula


def units(
    table: Statistics, rows: Array, compute: Formula, *, pool_single: bool = True
) -> list[Stratum]:
    """Sum samples into clusters within each stratum.

    Strata of a single unit say nothing about their own spread. With ``pool_single`` they become one
    stratum whose units are their scores (collapsed strata, Wolter 2007, §2.5: the error is
    overstated rather than missed).
    """
    strata: list[Stratum] = []
    single: list[float] = []
    for number in range(table.strata):
        inside = np.flatnonzero(table.stratum == number)
        clusters, cluster = np.unique(table.cluster[inside], return_inverse=True)
        summed = sums(rows[inside], cluster, len(clusters))
        if len(summed) == 1 and pool_single:
            single.append(float(compute(summed)[0]))
        else:
            strata.append(Stratum(summed, 1 / table.strata, compute))
    if single:
        values = np.array([[value, 1.0] for value in single])
        strata.append(Stratum(values, len(single) / table.strata, formula("mean")))
    return strata


def _numbered(values: Sequence[object]) -> NDArray[np.intp]:
    number: dict[object, int] = {}
    return np.array([number.setdefault(v, len(number)) for v in values], dtype=np.intp)
