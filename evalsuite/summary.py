"""From the records of one task to its scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeVar

from evalsuite.metrics.metric import Metric
from evalsuite.record import Interval, Record, TaskPart, TaskResult
from evalsuite.request import Generated
from evalsuite.stats.interval import estimate

MAX_TAG_VALUES = 200
"""A tag with more values than this names samples rather than groups, and is not broken down."""


_MOST = 4096
"""Different values that are remembered; scores that differ from sample to sample share nothing."""

T = TypeVar("T")


def summarise(part: TaskPart, records: Iterable[Record]) -> TaskResult:
    """The scores of one task, overall and by tag.

    Args:
        part: the task as it was planned; ``part.samples`` were asked.
        records: its records, one a sample, in any order.

    Raises:
        RunDamaged: a scored sample lacks the statistic of a metric.
    """
    every = list(records)
    scored = [record for record in every if record.error is None]
    return TaskResult(
        samples=part.samples,
        scored=len(scored),
        errors=dict(sorted(Counter(r.error.code for r in every if r.error is not None).items())),
        truncated=sum(is_truncated(record) for record in every),
        extracted=_extracted(scored),
        metrics={metric.name: estimate(metric, scored) for metric in part.metrics},
        by_tag={metric.name: _by_tag(metric, scored) for metric in part.metrics},
    )


class Shortener:
    """Takes from records what their summary does not need, and shares what many of them repeat."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def __call__(self, record: Record) -> Record:
        """A record with the same summary, in a fraction of the memory."""
        return Record(
            task=self._shared(record.task),
            sample=record.sample,
            tags=self._shared_dict(record.tags),
            cluster=record.cluster,
            response=Generated("", "length") if is_truncated(record) else None,
            error=record.error,
            scores=self._shared_dict(record.scores),
            answer=None if record.answer is None else "",
        )

    def _shared_dict(self, entries: dict[str, T]) -> dict[str, T]:
        values = tuple(tuple(v) if isinstance(v, list) else v for v in entries.values())
        return self._shared(entries, (*entries, *values)) if len(self._known) < _MOST else entries

    def _shared(self, value: T, key: Any = None) -> T:
        found: T = self._known.setdefault(value if key is None else key, value)
        return found


def is_truncated(record: Record) -> bool:
    """Whether the answer was cut off at the token limit."""
    return isinstance(record.response, Generated) and record.response.finish_reason == "length"


def groups(records: Iterable[Record]) -> dict[str, dict[str, list[Record]]]:
    """Tag → value → its records; values sorted, tags with too many values left out."""
    found: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        for tag, value in record.tags.items():
            found.setdefault(tag, {}).setdefault(value, []).append(record)
    return {
        tag: dict(sorted(values.items()))
        for tag, values in sorted(found.items())
        if len(values) <= MAX_TAG_VALUES
    }


def _by_tag(metric: Metric, scored: list[Record]) -> dict[str, dict[str, Interval]]:
    return {
        tag: {value: estimate(metric, members) for value, members in values.items()}
        for tag, values in groups(scored).items()
    }


def _extracted(scored: list[Record]) -> float:
    """The share of scored samples with an answer; nan only where nothing was scored."""
    if not scored:
        return math.nan
    return sum(record.answer is not None for record in scored) / len(scored)
