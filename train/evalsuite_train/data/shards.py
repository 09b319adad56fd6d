"""Records on disk between the steps: numbered JSONL shards, each of which appears as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from evalsuite_train.data.record import Record
from evalsuite_train.errors import TrainError
from evalsuite_train.files import whole_folder

ROWS = 50_000
BYTES = 128 << 20


def write_shards(
    folder: Path, records: Iterable[Record], row: Callable[[Record], Any] | None = None
) -> int:
    """Write records into ``folder``; it appears only once the last record is in it.

    Args:
        row: what is written of a record; everything by default.

    Returns:
        How many records were written.

    Raises:
        TrainError: the disk is full or may not be written; the old folder still stands.
    """
    try:
        with whole_folder(folder) as new:
            return _write(new, records, row)
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise TrainError(
            f"cannot write: {reason}", where=str(folder), hint="free some space"
        ) from fault


def _write(folder: Path, records: Iterable[Record], row: Callable[[Record], Any] | None) -> int:
    encoder = msgspec.json.Encoder()
    total = shard = rows = size = 0
    stream = (folder / "part-00000.jsonl").open("wb")
    try:
        for record in records:
            if rows == ROWS or size > BYTES:
                stream.close()
                shard, rows, size = shard + 1, 0, 0
                stream = (folder / f"part-{shard:05d}.jsonl").open("wb")
            line = encoder.encode(row(record) if row else record) + b"\n"
            stream.write(line)
            rows, size, total = rows + 1, size + len(line), total + 1
    finally:
        stream.close()
    return total


def read_shards(folder: Path) -> Iterator[Record]:
    """The records of a folder in the order in which they were written."""
    decoder = msgspec.json.Decoder(Record)
    for path in sorted(folder.glob("part-*.jsonl")):
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError as fault:
                    raise TrainError(
                        f"not a record: {fault}",
                        where=f"{path}:{number}",
                        hint="the file was changed; delete the folder `steps` and run again",
                    ) from None
