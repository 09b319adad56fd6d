"""The journal: a run is a folder that can be killed at any moment.

    OUT/RUN_ID/run.json        the manifest, replaced as a whole
    OUT/RUN_ID/records.jsonl   one line a sample, only ever appended to while the run goes on
    OUT/RUN_ID/prefixes.json   prompt prefixes shared by many samples, once each
    OUT/RUN_ID/lock            held by the one process that writes

A line counts when its line end is there. A torn last line is cut off at the next start; the sample
is simply asked again. Where a sample stands twice (a failure that was retried), the last line
counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import time
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import msgspec

from evalsuite import lines
from evalsuite.errors import DataMissing, RunDamaged, RunLocked, nearest
from evalsuite.files import sync_folder, write_atomically, writing
from evalsuite.record import SCHEMA, Record, RunManifest
from evalsuite.request import Failure

MANIFEST = "run.json"
RECORDS = "records.jsonl"
PREFIXES = "prefixes.json"
LOCK = "lock"

_SYNC_SECONDS = 1.0


class _Place(msgspec.Struct):
    task: str
    sample: str


class Run:
    """A run on disk, to be read.

    Attributes:
        path: its folder.
        manifest: its ``run.json``.
    """

    def __init__(self, path: Path, manifest: RunManifest) -> None:
        self.path = path
        self.manifest = manifest

    def records(self) -> Iterator[Record]:
        """The record of every sample, once each, in the order they were finished.

        Raises:
            RunDamaged: a line that is not a record, other than an unfinished last one.
        """
        file = self.path / RECORDS
        superseded = _superseded(file)
        for number, line in _whole_lines(file):
            if number not in superseded:
                yield _decode(line, Record, file, number)

    def prefixes(self) -> dict[str, str]:
        """Prefix key → the text that stands before many samples' prompts."""
        file = self.path / PREFIXES
        if not file.is_file():
            return {}
        prefixes: dict[str, str] = _decode(file.read_bytes(), dict[str, str], file, 1)
        return prefixes


def open_run(path: Path | str) -> Run:
    """Open a run by its folder (or its ``run.json``).

    ``OUT/NAME`` without the hash stands for the newest run of the checkpoint of that name in ``OUT``.

    Raises:
        DataMissing: no run there; the nearest folder that is one is named.
        RunDamaged: ``run.json`` cannot be read.
    """
    folder = Path(path)
    folder = folder.parent if folder.name == MANIFEST else folder
    file = folder / MANIFEST
    if not file.is_file():
        if same_name := [run for run in find_runs(folder.parent) if _named(run, folder.name)]:
            return max(same_name, key=lambda run: run.manifest.created)
        siblings = [p.parent.name for p in folder.parent.glob(f"*/{MANIFEST}")]
        near = nearest(folder.name, siblings)
        hint = f"did you mean {str(folder.parent / near)!r}?" if near else f"no {MANIFEST} in it"
        raise DataMissing("no such run", where=str(folder), hint=hint)
    return Run(folder, read_manifest(file))


def find_runs(out: Path, damaged: list[str] | None = None) -> list[Run]:
    """Every readable run directly under ``out``, sorted by folder name.

    Args:
        damaged: what is wrong with the others is added here.
    """
    runs = []
    for file in sorted(out.glob(f"*/{MANIFEST}")):
        try:
            if not file.is_file():
                raise RunDamaged("not a file", where=str(file))
            runs.append(open_run(file))
        except RunDamaged as fault:
            if damaged is not None:
                damaged.append(fault.one_line())
    return runs


def _named(run: Run, name: str) -> bool:
    return run.path.name.rpartition("-")[0] == name


def read_manifest(file: Path) -> RunManifest:
    """Read ``run.json``; null stands for a number that was not measured (nan)."""
    raw = _decode(file.read_bytes(), dict[str, Any], file, 1)
    if isinstance(raw.get("schema"), int) and raw["schema"] > SCHEMA:
        raise RunDamaged(
            f"written by a newer evalsuite (schema {raw['schema']})",
            where=str(file),
            hint="update evalsuite",
        )
    try:
        raw["results"] = _null_to_nan(raw.get("results", {}))
        return msgspec.convert(raw, RunManifest)
    except (msgspec.ValidationError, RecursionError) as fault:
        raise RunDamaged(f"not a manifest: {fault}", where=str(file)) from None


class Journal:
    """The one writer of a run.

    Use as a context manager. ``done`` maps (task, sample) to whether the record holds an error, for
    the records that were there when it was opened.

    Raises:
        RunLocked: another process is writing this run.
        RunDamaged: the folder holds another run, or lines that are no records.
        CannotWrite: full disk or no permission; whatever was appended before stays whole.
    """

    def __init__(self, folder: Path, manifest: RunManifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.done: dict[tuple[str, str], bool] = {}
        self._lock = _locked(folder)
        try:
            self._continue_or_begin()
            self._size = _cut_torn_line(folder / RECORDS)
            self.done = recorded(folder)
            with writing(folder / RECORDS):
                self._stream = os.open(
                    folder / RECORDS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666
                )
        except BaseException:
            self._lock.close()
            raise
        self._synced = time.monotonic()

    def append(self, records: Sequence[Record]) -> None:
        """Write records, whole lines in one call; on failure nothing of them is left behind.

        An interrupt that comes when all is written takes nothing back.
        """
        block = b"".join(lines.encode(record) + b"\n" for record in records)
        try:
            with writing(self.folder / RECORDS):
                written = 0
                while written < len(block):
                    written += os.write(self._stream, block[written:])
                if time.monotonic() - self._synced > _SYNC_SECONDS:
                    os.fsync(self._stream)
                    self._synced = time.monotonic()
        except BaseException as fault:
            with contextlib.suppress(OSError):
                whole = os.fstat(self._stream).st_size == self._size + len(block)
                if isinstance(fault, Exception) or not whole:
                    os.ftruncate(self._stream, self._size)
            raise
        self._size += len(block)

    def write_prefixes(self, prefixes: dict[str, str]) -> None:
        """Store the shared prompt prefixes, keeping those of an earlier start."""
        known = Run(self.folder, self.manifest).prefixes()
        if prefixes.keys() - known.keys():
            write_atomically(self.folder / PREFIXES, lines.encode(known | prefixes))

    def write_manifest(self) -> None:
        """Replace ``run.json`` by the manifest as it is now."""
        write_manifest(self.folder, self.manifest)

    def close(self) -> None:
        """Flush to disk and let other processes write."""
        with contextlib.suppress(OSError):
            os.fsync(self._stream)
        os.close(self._stream)
        self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _continue_or_begin(self) -> None:
        file = self.folder / MANIFEST
        if file.is_file():
            known = read_manifest(file)
            if (known.run_id, known.signature) != (self.manifest.run_id, self.manifest.signature):
                raise RunDamaged(
                    "this folder holds another run",
                    where=str(self.folder),
                    hint="choose another --out",
                )
            self.manifest.created = known.created
            self.manifest.finished = known.finished
            self.manifest.results = known.results
            self.manifest.seconds = known.seconds
            self.manifest.cost = known.cost
            self.manifest.usage = known.usage
        self.write_manifest()


class _PlaceAndError(_Place):
    error: Failure | None = None


def recorded(folder: Path) -> dict[tuple[str, str], bool]:
    """(task, sample) → whether its record holds an error, for every sample written down so far."""
    file = folder / RECORDS
    records = (_decode(line, _PlaceAndError, file, number) for number, line in _whole_lines(file))
    return {(record.task, record.sample): record.error is not None for record in records}


def write_manifest(folder: Path, manifest: RunManifest) -> None:
    """Write ``run.json`` atomically, readable by people too."""
    write_atomically(folder / MANIFEST, lines.pretty(manifest) + b"\n")


def replace_records(run: Run, records: Iterator[Record]) -> None:
    """Replace all records of a finished run as a whole (scoring again), under its lock."""
    with contextlib.closing(_locked(run.path)):
        scratch = run.path / f".{RECORDS}.new"
        try:
            with writing(run.path / RECORDS), scratch.open("wb") as stream:
                for record in records:
                    stream.write(lines.encode(record) + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            scratch.replace(run.path / RECORDS)
        finally:
            scratch.unlink(missing_ok=True)
        sync_folder(run.path)


def _locked(folder: Path) -> IO[bytes]:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise RunLocked(
            "another process is writing this run",
            where=str(folder),
            hint="wait for it, or choose another --out",
        ) from None
    return lock


def _whole_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    if not file.is_file():
        return
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.endswith(b"\n"):
                yield number, line


def _superseded(file: Path) -> set[int]:
    """Numbers of the lines whose sample stands again further down."""
    hashes = array("q", (hash((place.task, place.sample)) for _, place in _places(file)))
    suspects = {one for one, other in pairwise(sorted(hashes)) if one == other}
    last: dict[tuple[str, str], int] = {}
    superseded: set[int] = set()
    for number, place in _places(file) if suspects else ():
        key = place.task, place.sample
        if hash(key) in suspects:
            if key in last:
                superseded.add(last[key])
            last[key] = number
    return superseded


def _places(file: Path) -> Iterator[tuple[int, _Place]]:
    for number, line in _whole_lines(file):
        yield number, _decode(line, _Place, file, number)


def _cut_torn_line(file: Path) -> int:
    """Cut an unfinished last line off and return the size that is left."""
    if not file.is_file():
        return 0
    with writing(file), file.open("r+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            start = max(0, keep - 65536)
            stream.seek(start)
            found = stream.read(keep - start).rfind(b"\n")
            if found >= 0:
                keep = start + found + 1
                break
            keep = start
        if keep != end:
            stream.truncate(keep)
            os.fsync(stream.fileno())
        return keep


def _decode(line: bytes, kind: Any, file: Path, number: int) -> Any:
    try:
        return lines.decode(line, kind)
    except msgspec.DecodeError as fault:
        raise RunDamaged(
            f"unreadable: {fault}",
            where=f"{file}:{number}",
            hint="remove that line and start the run again: only its sample is asked again"
            if file.name == RECORDS
            else "move the run's folder away and start the run again",
        ) from None


def _null_to_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _null_to_nan(entry) for key, entry in value.items()}
    return math.nan if value is None else value
