"""From the records of one task to its scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from evalsuite.metrics.metric import Metric
from evalsuite.record import Interval, Record, TaskPart, TaskResult
from evalsuite.request import Generated
from evalsuite.stats.interval import estimate

MAX_TAG_VALUES = 200
"""A tag with more values than this names samples rather than groups, and is not broken down."""


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
