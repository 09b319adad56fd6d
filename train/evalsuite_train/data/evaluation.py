"""How good the result is: samples to read, scores by source, and what was caught of what was planted."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
from rich.console import Console
from rich.table import Table

from evalsuite_train.data.ledger import Ledger
from evalsuite_train.data.record import Record

CAUSES: dict[str, tuple[str, ...]] = {
    "duplicate": ("exact duplicate", "near duplicate"),
    "near-duplicate": ("near duplicate", "exact duplicate"),
    "boilerplate": ("only boilerplate", "empty"),
    "toxic": ("sensitive",),
    "gibberish": ("low quality", "few letters", "strange words", "repeated", "many symbols"),
}
"""Planted label → the beginnings of the reasons for which it should be dropped."""


class Sample(msgspec.Struct):
    """What one source kept.

    Attributes:
        mean_score: of all its records.
        examples: a random few, to be read.
    """

    source: str
    records: int = 0
    mean_score: float = 0.0
    examples: list[dict[str, str | float]] = []


class Found(msgspec.Struct, frozen=True):
    """How well one kind of planted record was found.

    Attributes:
        planted: how many carried the label.
        caught: how many of them were dropped, for any reason.
        flagged: records dropped for this label's reasons, whatever their label.
        right: records of this label among ``flagged``.
    """

    label: str
    planted: int
    caught: int
    flagged: int
    right: int

    @property
    def precision(self) -> float:
        """The share of the flagged that were planted."""
        return self.right / self.flagged if self.flagged else 1.0

    @property
    def recall(self) -> float:
        """The share of the planted that were caught."""
        return self.caught / self.planted if self.planted else 1.0


class Evaluation(msgspec.Struct, frozen=True):
    """The report that ``evaluation.json`` holds."""

    samples: list[Sample]
    planted: list[Found]


def evaluate(records: Iterable[Record], ledger: Ledger, seed: int, size: int = 20) -> Evaluation:
    """Sample what was kept, and compare what was dropped with the labels, where there are any."""
    rng = random.Random(seed)
    samples: dict[str, Sample] = {}
    for record in records:
        sample = samples.setdefault(record.source, Sample(record.source))
        shown: dict[str, str | float] = {
            "where": record.where,
            "score": record.score,
            "text": record.content[:300],
        }
        if sample.records < size:
            sample.examples.append(shown)
        elif (place := rng.randrange(sample.records + 1)) < size:
            sample.examples[place] = shown
        sample.mean_score += (record.score - sample.mean_score) / (sample.records + 1)
        sample.records += 1
    return Evaluation(list(samples.values()), planted(ledger))


def planted(ledger: Ledger) -> list[Found]:
    """Precision and recall of each label that the corpus carries; empty without labels."""
    labels: dict[str, int] = {}
    dropped: dict[str, int] = {}
    caught: dict[str, dict[str, int]] = {}
    for entry in ledger.entries:
        for label, count in entry.labels.items():
            labels[label] = max(labels.get(label, 0), count)
        for reason, count in entry.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        for label, reasons in entry.caught.items():
            own = caught.setdefault(label, {})
            for reason, count in reasons.items():
                own[reason] = own.get(reason, 0) + count
    found = []
    for label, causes in CAUSES.items():
        if label not in labels:
            continue
        own = {
            reason: count
            for reason, count in caught.get(label, {}).items()
            if reason != "down-sampled"
        }
        # A copy planted as "duplicate" and one planted as "near-duplicate" are both right to drop as copies.
        kin = [name for name in labels if CAUSES.get(name, ("",))[0] in causes or name == label]
        right = sum(
            count
            for name in kin
            for reason, count in caught.get(name, {}).items()
            if reason.startswith(causes)
        )
        flagged = sum(count for reason, count in dropped.items() if reason.startswith(causes))
        found.append(Found(label, labels[label], sum(own.values()), flagged, right))
    return found


def show(evaluation: Evaluation) -> None:
    """Print the planted labels' precision and recall, and each source's mean score."""
    console = Console()
    if evaluation.planted:
        table = Table("planted", "count", "recall", "precision")
        for found in evaluation.planted:
            table.add_row(
                found.label, str(found.planted), f"{found.recall:.3f}", f"{found.precision:.3f}"
            )
        console.print(table)
    for sample in evaluation.samples:
        console.print(
            f"{sample.source}: {sample.records:,} records, mean score {sample.mean_score:.3f}"
        )
