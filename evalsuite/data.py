"""Reading a task's data: a folder in its official layout, row by row, with bad rows named."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from evalsuite.errors import BadRow, DataMissing

csv.field_size_limit(1 << 30)
MAX_UNPACKED = 1 << 30
"""Bytes that a compressed file may unpack to."""
T = TypeVar("T")


class DataFolder:
    """A folder of data, or a single file, read only through its methods.

    Args:
        path: the folder, or one file.
        layout: what is expected there, for error messages.
        skip_bad_rows: leave malformed rows out, and count them, instead of raising.

    Attributes:
        bad_rows: ``file:row: reason`` of every row left out.
        sha256: relative file name → checksum, of each file read so far.
    """

    def __init__(self, path: Path, *, layout: str = "", skip_bad_rows: bool = False) -> None:
        if not path.exists():
            raise DataMissing(
                "no such data folder or file", where=str(path), hint=f"expected {layout}"
            )
        self.path = path
        self.root = path if path.is_dir() else path.parent
        self.layout = layout
        self.skip_bad_rows = skip_bad_rows
        self.bad_rows: list[str] = []
        self.sha256: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Whether the folder holds this file."""
        return (self.root / name).is_file()

    def glob(self, pattern: str) -> list[str]:
        """Names of the files that match, sorted; only the file itself if one was given."""
        if self.path.is_file():
            return [self.path.name] if Path(self.path.name).match(pattern) else []
        found = (
            p.relative_to(self.root).as_posix() for p in self.root.glob(pattern) if p.is_file()
        )
        return sorted(found)

    def first(self, *names: str) -> str:
        """The first of these names or patterns that exists; raises :class:`DataMissing`."""
        for name in names:
            if found := self.glob(name):
                return found[0]
        raise DataMissing(
            f"none of {', '.join(names)} found",
            where=str(self.path),
            hint=f"expected {self.layout}",
        )

    def text(self, name: str, *, normalise: bool = True) -> str:
        """The whole file as UTF-8, a byte-order mark dropped, line ends as ``\\n`` if normalised.

        Raises:
            DataMissing: not there or not readable.
            BadRow: not UTF-8, with the row of the first bad byte; a ``.gz`` that is damaged or huge.
        """
        raw = self._bytes(name)
        if name.endswith(".gz"):
            raw = self._unpacked(name, raw)
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as fault:
            row = raw.count(b"\n", 0, fault.start) + 1
            raise BadRow(
                "not valid UTF-8",
                where=f"{self.root / name}:{row}",
                hint="convert the file to UTF-8",
            ) from None
        return text.replace("\r\n", "\n").replace("\r", "\n") if normalise else text

    def _bytes(self, name: str) -> bytes:
        file = self.root / name
        try:
            raw = file.read_bytes()
        except OSError as fault:
            reason = fault.strerror or str(fault)
            raise DataMissing(
                f"cannot read data: {reason.lower()}",
                where=str(file),
                hint=f"expected {self.layout}",
            ) from None
        self.sha256[name] = hashlib.sha256(raw).hexdigest()
        return raw

    def _unpacked(self, name: str, packed: bytes) -> bytes:
        try:
            with gzip.open(io.BytesIO(packed)) as stream:
                raw = stream.read(MAX_UNPACKED + 1)
        except (OSError, EOFError, zlib.error) as fault:
            raise BadRow(
                f"not a whole gzip file: {fault}",
                where=str(self.root / name),
                hint="download it again",
            ) from None
        if len(raw) > MAX_UNPACKED:
            raise BadRow(
                f"unpacks to more than {MAX_UNPACKED >> 20} MiB",
                where=str(self.root / name),
                hint="unpack it yourself if it is meant to be that large",
            )
        return raw

    def lines(self, name: str) -> list[str]:
        """The lines of a plain text file; only ``\\n`` ends a line, the last end is optional."""
        lines = self.text(name).split("\n")
        return lines[:-1] if lines and lines[-1] == "" else lines

    def header(self, name: str) -> list[str]:
        """The column names of a CSV file, in lower case; empty for an empty file."""
        return self._header(name, self._csv_reader(name))

    def csv(self, name: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
        """Rows of a CSV file with a header, as (row number from 1, column → value).

        Column names are matched without regard to case. Extra columns are kept out. Cells are the
        text that stands in the file: ``NA`` and ``1.0`` stay as they are, and so does a line end
        inside quotes, ``\\r\\n`` included (as pandas reads it, so as prompts have it elsewhere).

        Raises:
            BadRow: a column is missing from the header, or a row has too few or too many fields.
        """
        reader = self._csv_reader(name)
        header = self._header(name, reader)
        missing = [c for c in columns if c.lower() not in header]
        if missing:
            raise BadRow(
                f"no column {', '.join(missing)}",
                where=f"{self.root / name}:1",
                hint=f"its header must have {', '.join(columns)}",
            )
        place = {column: header.index(column.lower()) for column in columns}
        number = 1
        while True:
            number += 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as fault:
                self.reject(name, number, f"broken CSV quoting: {fault}")
                continue
            if not row:
                continue
            if len(row) != len(header):
                self.reject(name, number, f"{len(row)} fields where the header has {len(header)}")
                continue
            yield number, {column: row[at] for column, at in place.items()}

    def _csv_reader(self, name: str) -> Iterator[list[str]]:
        return csv.reader(io.StringIO(self.text(name, normalise=False), newline=""), strict=True)

    def _header(self, name: str, rows: Iterator[list[str]]) -> list[str]:
        try:
            return [column.strip().lower() for column in next(rows, [])]
        except csv.Error as fault:
            raise BadRow(
                f"broken CSV quoting: {fault}",
                where=f"{self.root / name}:1",
                hint="mend the header",
            ) from None

    def jsonl(self, name: str, required: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Objects of a JSONL file, as (row number from 1, object); blank lines are passed over.

        Raises:
            BadRow: not JSON, not an object, or a required key is missing or null.
        """
        for number, line in enumerate(self.lines(name), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as fault:
                self.reject(name, number, f"not JSON: {fault}")
                continue
            if not isinstance(row, dict):
                self.reject(name, number, "not a JSON object")
                continue
            if self._complete(name, number, row, required):
                yield number, row

    def array(self, name: str, required: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Objects of a JSON file that is one array, as (number from 1, object).

        Raises:
            BadRow: not a JSON array, an element is no object, or a required key is missing or null.
        """
        try:
            rows = json.loads(self.text(name))
        except (ValueError, RecursionError) as fault:
            raise BadRow(
                f"not JSON: {fault}", where=str(self.root / name), hint=f"expected {self.layout}"
            ) from None
        if not isinstance(rows, list):
            raise BadRow(
                "not a JSON array", where=str(self.root / name), hint=f"expected {self.layout}"
            )
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict):
                self.reject(name, number, "not a JSON object")
            elif self._complete(name, number, row, required):
                yield number, row

    def structs(self, name: str, kind: type[T], required: Sequence[str]) -> Iterator[tuple[int, T]]:
        """Rows of a JSONL file as structures, as (row number from 1, structure).

        Raises:
            BadRow: as in :meth:`jsonl`, or a value of the wrong kind.
        """
        for number, row in self.jsonl(name, required):
            try:
                item = msgspec.convert(row, kind)
            except (msgspec.ValidationError, UnicodeEncodeError) as fault:
                self.reject(name, number, str(fault))
                continue
            yield number, item

    def parquet(self, name: str, required: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows of a Parquet file (as the hub converts data sets to), as (row number from 1, row).

        Raises:
            DataMissing: not there or not readable.
            BadRow: not Parquet, or a required column is missing or null.
        """
        import pyarrow
        import pyarrow.parquet

        raw = self._bytes(name)
        try:
            rows = pyarrow.parquet.read_table(pyarrow.BufferReader(raw)).to_pylist()
        except pyarrow.ArrowException as fault:
            raise BadRow(
                f"not a Parquet file: {fault}",
                where=f"{self.root / name}:1",
                hint="fetch the file again",
            ) from None
        for number, row in enumerate(rows, 1):
            if self._complete(name, number, row, required):
                yield number, row

    def _complete(
        self, name: str, number: int, row: dict[str, Any], required: Sequence[str]
    ) -> bool:
        missing = [key for key in required if row.get(key) is None]
        if missing:
            self.reject(name, number, f"no {', '.join(missing)}")
        return not missing

    def reject(self, name: str, number: int, reason: str) -> None:
        """Refuse a row: raise :class:`BadRow`, or note it where the user asked to skip bad rows."""
        where = f"{self.root / name}:{number}"
        if not self.skip_bad_rows:
            raise BadRow(
                reason, where=where, hint="mend the row, or leave it out with --skip-bad-rows"
            )
        self.bad_rows.append(f"{name}:{number}: {reason}")

    def checksum(self) -> str:
        """One sha256 over the names and contents of all files read so far."""
        listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.sha256.items()))
        return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
