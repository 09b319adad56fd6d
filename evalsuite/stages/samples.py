"""A few samples of two rungs side by side, category by category."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from evalsuite import lines
from evalsuite.record import Record
from evalsuite.request import Generated
from evalsuite.stages.answers import telling_tag
from evalsuite.stages.rungs import Cell, Ladder, Source
from evalsuite.summary import is_truncated

_EACH = 2
"""Samples of a category."""
_MOST = 10
"""Categories of a task."""
_TEXT = 1_200
"""Characters of one text."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One rung's answer; ``score`` None where it has none, or where it is a list of statistics."""

    text: str
    score: float | None
    truncated: bool


class ShownPair(msgspec.Struct, frozen=True, kw_only=True):
    """One sample with the answers of the two rungs, in their order."""

    task: str
    tag: str
    category: str
    sample: str
    prompt: str
    target: str
    answers: tuple[Answer, ...]


def shown_pairs(ladder: Ladder, rungs: Sequence[str]) -> list[ShownPair]:
    """Samples that both rungs answered with a text; first those on which their scores differ.

    Raises:
        RunDamaged: records that cannot be read.
    """
    shown = []
    for task in ladder.tasks:
        for decoding in ladder.decodings:
            found = [ladder.cells.get(Cell(rung, task, decoding), {}) for rung in rungs]
            common = sorted(found[0].keys() & found[1].keys())
            if common:
                sources = [each[common[0]] for each in found]
            elif all(found):
                sources = [each[min(each)] for each in found]
            else:
                continue
            shown += _of_task(task, sources)
            break
    return shown


def _of_task(task: str, sources: Sequence[Source]) -> list[ShownPair]:
    sides = [
        {
            r.sample: r
            for r in source.run.records()
            if r.task == task and isinstance(r.response, Generated)
        }
        for source in sources
    ]
    metric = sources[0].part.main_metric
    statistic = next(m.source for m in sources[0].part.metrics if m.name == metric)
    tag = telling_tag(list(sides[0].values()))
    groups: dict[str, list[str]] = {}
    for sample, record in sides[0].items():
        if sample in sides[1]:
            groups.setdefault(record.tags.get(tag, ""), []).append(sample)

    def rank(sample: str) -> tuple[bool, bytes]:
        values = [side[sample].scores.get(statistic) for side in sides]
        return values[0] == values[1], hashlib.sha256(lines.encode(sample)).digest()

    pairs = []
    for category in sorted(groups)[:_MOST]:
        for sample in sorted(groups[category], key=rank)[:_EACH]:
            first = sides[0][sample]
            pairs.append(
                ShownPair(
                    task=task,
                    tag=tag,
                    category=category,
                    sample=sample,
                    prompt=_cut(first.prompt),
                    target=_cut(_as_text(first.target)),
                    answers=tuple(_answer(side[sample], statistic) for side in sides),
                )
            )
    return pairs


def _answer(record: Record, statistic: str) -> Answer:
    text = record.response.text if isinstance(record.response, Generated) else ""
    value = record.scores.get(statistic)
    number = float(value) if isinstance(value, (int, float)) else None
    return Answer(text=_cut(text), score=number, truncated=is_truncated(record))


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else lines.encode(value).decode("utf-8")


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}… [+{len(text) - _TEXT:,}]"
