"""Open instructions with a checkable wish.

The samples are held out by content from the data of the tiny ladder in ``train/``.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from evalsuite.instructions import Instructions
from evalsuite.metrics.metric import Metric
from evalsuite.task import DataSource, Outcome, Sample, TaskMeta, Variant


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """One checkable part of a wish."""

    type: Literal["items", "ends_with", "contains", "max_characters", "language"]
    value: str | int = ""
    count: int = 0
    among: tuple[str, ...] = ()


class Wishes(Instructions):
    meta = TaskMeta(
        name="ladder_wishes",
        title="Open instructions with a checkable wish",
        description="How many, how long, which ending, which word, which language: a reply fulfils its wish or not",
        languages=("zh", "en"),
        domain="instruction following",
        licence="Apache-2.0",
        citation="evalsuite's own grammar, train/evalsuite_train/tiny/wishes.py",
        source=DataSource(
            layout="a JSONL file, or a folder with questions.jsonl, each row with id, language, prompt,"
            " reference, kind and rules; content where several questions are about one thing",
            url="train/README.md",
        ),
        main_metric="fulfilled",
        version=1,
        sample_data="samples/ladder_wishes",
    )
    variants = (Variant("chat", "the question as a user writes it"),)
    columns = ("kind", "rules")
    tag = "kind"
    metrics = (Metric("fulfilled"),)

    def check(self, sample: Sample, reply: str) -> Outcome:
        rules = msgspec.convert(sample.fields["rules"], tuple[Rule, ...])
        fulfilled = bool(reply) and all(_holds(rule, reply) for rule in rules)
        return Outcome({"fulfilled": float(fulfilled)}, reply or None)


def _holds(rule: Rule, reply: str) -> bool:
    if rule.type == "items":
        items = [item.strip() for item in re.split("[、,，]", reply.rstrip("。.！!"))]
        return len(items) == len(set(items)) == rule.count and set(items) <= set(rule.among)
    if rule.type == "max_characters":
        return len(reply) <= int(rule.value)
    if rule.type == "language":
        chinese = sum("一" <= c <= "鿿" for c in reply)
        latin = sum(c.isascii() and c.isalpha() for c in reply)
        return chinese >= max(latin, 1) if rule.value == "zh" else latin > 0 and chinese == 0
    value = str(rule.value).casefold()
    folded = reply.casefold()
    return value in folded if rule.type == "contains" else folded.endswith(value)


TASK = Wishes()
