"""The running score of a task while its samples come in."""

from __future__ import annotations

import math
import time

import numpy as np

from evalsuite.metrics.formulas import formula
from evalsuite.metrics.metric import Array
from evalsuite.record import Record, TaskPart
from evalsuite.report.tables import shown
from evalsuite.request import Generated
from evalsuite.stats.interval import wilson

_REPLICATES = 100
_Z = 1.96


class Tally:
    """Running totals of one task: how many, the main metric so far, errors, truncations.

    The interval comes from a Poisson bootstrap, which needs no second look at a sample (Chamandy et
    al. 2012): a hundred copies of the totals each count every sample Poisson(1) times. A plain share
    of right answers gets Wilson's interval.
    """

    def __init__(self, part: TaskPart, total: int) -> None:
        self.part = part
        self.total = total
        self.count = 0
        self.errors = 0
        self.truncated = 0
        self._metric = next(m for m in part.metrics if m.name == part.main_metric)
        self._sums: dict[str, Array] = {}
        self._binary = self._metric.formula == "mean" and not self._metric.macro_over
        self._scored = 0
        self._begun = math.nan
        self._chance = np.random.default_rng(0)

    def add(self, record: Record) -> None:
        """Count one finished sample."""
        if self.count == 0:
            self._begun = time.monotonic()
        self.count += 1
        self.errors += record.error is not None
        response = record.response
        self.truncated += isinstance(response, Generated) and response.finish_reason == "length"
        value = record.scores.get(self._metric.source)
        if value is not None:
            self._add_score(value, record.tags.get(self._metric.macro_over, ""))

    def _add_score(self, value: float | list[float], group: str) -> None:
        plain = not isinstance(value, list)
        self._binary = self._binary and plain and value in (0, 1)
        self._scored += 1
        vector = np.asarray([value, 1.0] if plain else value, dtype=np.float64)
        weights = np.concatenate([[1.0], self._chance.poisson(1.0, _REPLICATES)])
        part = weights[:, None] * vector
        known = self._sums.get(group)
        self._sums[group] = part if known is None else known + part

    def rate(self) -> float:
        """Samples a second since the task's first one; nan before the second."""
        seconds = time.monotonic() - self._begun
        return (self.count - 1) / seconds if self.count > 1 and seconds > 0 else math.nan

    def score(self) -> str:
        """The main metric so far with the half-width of its 95% interval; empty before any score."""
        if not self._sums:
            return ""
        groups = formula(self._metric.formula)(np.stack(list(self._sums.values())))
        counted = np.isfinite(groups)
        totals = np.where(counted, groups, 0.0).sum(axis=0)
        values = totals / np.maximum(counted.sum(axis=0), 1)
        text = shown(float(values[0]), self._metric.unit)
        if self._scored < 2:
            return text
        return f"{text} ±{shown(self._half_width(values), self._metric.unit)}"

    def _half_width(self, values: Array) -> float:
        if self._binary:
            low, high = wilson(float(values[0]), self._scored, 0.95)
            return float(max(high - values[0], values[0] - low))
        return float(_Z * values[1:].std())
