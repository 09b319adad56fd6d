"""The steps from raw files to training text, each from the shards of the one before."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from evalsuite_train.data.ledger import Entry, Ledger
from evalsuite_train.data.record import Outcome, Record
from evalsuite_train.data.shards import read_shards, write_shards
from evalsuite_train.files import write_whole

Step = Callable[[Iterable[Record], Entry], Iterable[Outcome]]
"""Records in, one outcome a record out; the entry is the step's account, for steps that copy."""


class Pipeline:
    """Runs steps once each: a finished step whose settings did not change is not run again.

    Only one step's records stream through memory. A step's shards are deleted once the next step's stand.

    Args:
        folder: where the steps stand, one folder each.
        key: what the whole result depends on: settings, seed, and the input files' sizes and dates.
    """

    def __init__(self, folder: Path, key: Any) -> None:
        self.folder = folder
        self.key = msgspec.json.encode(key, order="deterministic").decode()
        self.ledger = Ledger()
        self.last: Path | None = None
        folder.mkdir(parents=True, exist_ok=True)
        marker = folder / "key.json"
        if not marker.is_file() or marker.read_text(encoding="utf-8") != self.key:
            shutil.rmtree(folder)
            folder.mkdir()
            marker.write_text(self.key, encoding="utf-8")

    def read(self, name: str, step: Callable[[Entry], Iterable[Record]]) -> None:
        """The first step, which reads the files and counts the bad rows itself."""
        self._run(name, lambda entry: step(entry))

    def run(self, name: str, step: Step) -> None:
        """Run ``step`` over what the last one kept.

        Raises:
            TrainError: the step's account does not sum up, or the disk is full.
        """
        source = self.last
        assert source is not None, "read comes first"
        self._run(
            name, lambda entry: entry.keeping(step(entry.counting(read_shards(source)), entry))
        )

    def records(self) -> Iterator[Record]:
        """What the last step kept."""
        assert self.last is not None, "read comes first"
        return read_shards(self.last)

    def _run(self, name: str, step: Callable[[Entry], Iterable[Record]]) -> None:
        target = self.folder / f"{len(self.ledger.entries):02d}-{name}"
        account = target.with_suffix(".json")
        if account.is_file():
            entry = msgspec.json.decode(account.read_bytes(), type=Entry)
        else:
            entry, started = Entry(name), time.monotonic()
            write_shards(target, _progress(name, step(entry)))
            entry.seconds = round(time.monotonic() - started, 2)
            entry.balance()
            write_whole(account, msgspec.json.encode(entry))
        self.ledger.add(entry)
        if self.last is not None:
            shutil.rmtree(self.last, ignore_errors=True)
        self.last = target


def _progress(name: str, records: Iterable[Record]) -> Iterator[Record]:
    """The records, with a line on a terminal's standard error about how many there were."""
    started = shown = time.monotonic()
    terminal = sys.stderr.isatty()
    number = 0
    for number, record in enumerate(records, 1):
        yield record
        now = time.monotonic()
        if now - shown > (1 if terminal else 30):
            shown = now
            line = f"{name}: {number:,} records, {number / (now - started):,.0f}/s"
            print(line, end="\r" if terminal else "\n", file=sys.stderr, flush=True)
    if terminal and shown > started:
        print(f"{name}: {number:,} records" + " " * 20, file=sys.stderr)
