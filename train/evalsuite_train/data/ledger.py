"""What each step was given, kept and dropped, and why; the sums are proved, not hoped for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from evalsuite_train.data.record import Dropped, Outcome, Record
from evalsuite_train.errors import TrainError
from evalsuite_train.files import write_whole

EXAMPLES = 5


class Entry(msgspec.Struct):
    """One step's account: ``given + copied == kept + sum(dropped)``.

    Attributes:
        dropped: reason → records.
        copied: records that up-sampling added.
        examples: reason → the first few ``file:line``.
        labels: planted label → how many were given here, where a test corpus carries labels.
        caught: planted label → reason → how many were dropped.
        seconds: how long the step took.
    """

    step: str
    given: int = 0
    kept: int = 0
    copied: int = 0
    dropped: dict[str, int] = {}
    examples: dict[str, list[str]] = {}
    labels: dict[str, int] = {}
    caught: dict[str, dict[str, int]] = {}
    seconds: float = 0.0

    def drop(self, reason: str, where: str) -> None:
        """Count one record that is left out."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < EXAMPLES:
            shown.append(where)

    def counting(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records on their way into the step."""
        for record in records:
            self.given += 1
            if record.label:
                self.labels[record.label] = self.labels.get(record.label, 0) + 1
            yield record

    def keeping(self, outcomes: Iterable[Outcome]) -> Iterator[Record]:
        """The records on their way out of the step, the dropped ones counted and left out."""
        for outcome in outcomes:
            if isinstance(outcome, Dropped):
                self.drop(outcome.reason, outcome.record.where)
                if outcome.record.label:
                    reasons = self.caught.setdefault(outcome.record.label, {})
                    reasons[outcome.reason] = reasons.get(outcome.reason, 0) + 1
            else:
                self.kept += 1
                yield outcome

    def balance(self) -> None:
        """Prove the sum.

        Raises:
            TrainError: a record came or went without being counted, which is a defect of the step.
        """
        left = self.kept + sum(self.dropped.values())
        if self.given + self.copied != left:
            raise TrainError(
                f"{self.given} + {self.copied} records in, {left} accounted for",
                where=f"the ledger of step {self.step!r}",
                hint="this is a defect of the step, not of the data; please report it",
            )


class Ledger(msgspec.Struct):
    """The entries of all steps in order."""

    entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Append a finished step.

        Raises:
            TrainError: its own sum is wrong, or it was not given what the step before it kept.
        """
        entry.balance()
        if self.entries and self.entries[-1].kept != entry.given:
            before = self.entries[-1]
            raise TrainError(
                f"step {before.step!r} kept {before.kept} records and {entry.step!r} was given {entry.given}",
                where="the ledger",
                hint="a file of the step was changed; delete the folder `steps` and run again",
            )
        self.entries.append(entry)

    def write(self, path: Path) -> None:
        """Write all entries as JSON, as a whole."""
        write_whole(path, msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")

    def show(self) -> None:
        """Print what each step did."""
        table = Table("step", "in", "out", "dropped", "why", "s")
        for column in table.columns[1:4]:
            column.justify = "right"
        for entry in self.entries:
            why = sorted(entry.dropped.items(), key=lambda item: -item[1])
            more = f"copied {entry.copied}  " if entry.copied else ""
            table.add_row(
                entry.step,
                str(entry.given),
                str(entry.kept),
                str(sum(entry.dropped.values())),
                more + ", ".join(f"{reason} {count}" for reason, count in why[:6]),
                f"{entry.seconds:.1f}",
            )
        Console().print(table)
