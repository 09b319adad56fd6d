"""Reading one file of training data row by row, with bad rows named and counted."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from evalsuite_train.data.formats import BadRow, delimiter, detect, record_of
from evalsuite_train.data.json_array import elements
from evalsuite_train.data.language import language_of
from evalsuite_train.data.lines import LONGEST_ROW, TOO_LONG, lines_of, opened
from evalsuite_train.data.record import Record
from evalsuite_train.errors import BadData

EXAMPLES = 5
csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW))


class Reader:
    """The records of one file; after iterating, ``rows``, ``bad`` and ``examples`` are complete.

    Args:
        kind: the format, or ``auto``.
        encoding: of the text; rows that are not in it are bad rows.
        bad_share: the share of bad rows above which the whole file is refused.

    Attributes:
        rows: how many rows there were, bad ones included; empty lines are no rows.
        bad: reason → how many rows.
        examples: reason → the first few ``file:line``, in an array ``file:line#element``.
    """

    def __init__(
        self,
        path: Path,
        *,
        source: str = "",
        kind: str = "auto",
        encoding: str = "utf-8",
        language: str = "",
        task: str = "",
        bad_share: float = 0.1,
    ) -> None:
        self.path, self.source = path, source or path.stem
        self.kind = detect(path) if kind == "auto" else kind
        self.encoding, self.language, self.task = encoding, language, task
        self.bad_share = bad_share
        self.rows = 0
        self.bad: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def __iter__(self) -> Iterator[Record]:
        """The good rows.

        Raises:
            BadData: an empty or damaged file, only bad rows, or more of them than ``bad_share``.
        """
        with opened(self.path) as stream:
            for place, row in self._rows(stream):
                self.rows += 1
                where = f"{self.path.name}:{place}"
                try:
                    if isinstance(row, BadRow):
                        raise row
                    record = record_of(self.kind, row, self.source, where)
                except BadRow as fault:
                    self._count(str(fault), where)
                    continue
                record.language = self.language or language_of(record.content)
                record.task = record.task or self.task
                yield record
        self._judge()

    def _rows(self, stream: BinaryIO) -> Iterator[tuple[int | str, Any]]:
        """Where in the file a row stands, and the row."""
        if self.kind.startswith("csv"):
            return self._csv(stream)
        if self.kind == "lines":
            return self._lines(stream)
        return self._json(stream)

    def _lines(self, stream: BinaryIO) -> Iterator[tuple[int, str | BadRow]]:
        for number, line in lines_of(stream):
            text = self._decoded(line)
            if isinstance(text, BadRow) or text.strip():
                yield number, text

    def _json(self, stream: BinaryIO) -> Iterator[tuple[int | str, Any]]:
        array = _skip_white_space(stream) == b"["
        for place, row in self._array(stream) if array else lines_of(stream):
            text = self._decoded(row)
            if isinstance(text, BadRow):
                yield place, text
            elif text.strip():
                yield place, _parsed(text)

    def _array(self, stream: BinaryIO) -> Iterator[tuple[str, bytes | None]]:
        """Elements by line and number: a whole array may stand in one line."""
        try:
            for number, (line, element) in enumerate(elements(stream, LONGEST_ROW), 1):
                yield f"{line}#{number}", element
        except ValueError as fault:
            raise BadData(
                f"a broken JSON array: {fault}",
                where=str(self.path),
                hint="correct that row, or write one object a line (JSONL), where a bad row stays alone",
            ) from None

    def _csv(self, stream: BinaryIO) -> Iterator[tuple[int, Any]]:
        lines = _TextLines(self, stream)
        names: list[str] = []
        reader = csv.reader(lines, delimiter=delimiter(self.path.name), strict=True)
        while True:
            start = lines.begin_row()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (BadRow, csv.Error) as fault:
                # An open quote takes the lines behind it along: each of them is a row that was lost.
                reason = fault if isinstance(fault, BadRow) else BadRow(f"broken CSV: {fault}")
                yield from ((number, reason) for number in range(start, lines.number + 1))
                continue
            if not names:
                names = [cell.strip() for cell in cells]
                continue
            if not cells:
                continue
            if len(cells) != len(names):
                yield start, BadRow(f"{len(cells)} columns where the header has {len(names)}")
            else:
                yield start, dict(zip(names, cells, strict=True))

    def _decoded(self, line: bytes | None) -> str | BadRow:
        if line is None:
            return BadRow(TOO_LONG)
        try:
            return line.decode(self.encoding)
        except UnicodeDecodeError:
            return BadRow(f"not {self.encoding}")

    def _count(self, reason: str, where: str) -> None:
        self.bad[reason] += 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < EXAMPLES:
            shown.append(where)

    def _judge(self) -> None:
        bad = self.bad.total()
        if self.rows == 0:
            raise BadData(
                "the file holds no rows", where=str(self.path), hint="remove it from the sources"
            )
        if bad == self.rows or bad > self.bad_share * self.rows:
            reason, count = self.bad.most_common(1)[0]
            hint = "correct the rows, or raise bad_share in the recipe"
            if reason.startswith("not "):
                hint = "name the file's encoding in the recipe, for example encoding: gb18030"
            raise BadData(
                f"{bad} of {self.rows} rows are bad (allowed: {self.bad_share:.0%}), most because: {reason}"
                f" ({count}, first at {self.examples[reason][0]})",
                where=str(self.path),
                hint=hint,
            )


class _TextLines:
    """Decoded lines for the CSV reader, which would take a whole file into one open quote."""

    def __init__(self, owner: Reader, stream: BinaryIO) -> None:
        self.owner = owner
        self.lines = lines_of(stream)
        self.number = self.size = 0

    def begin_row(self) -> int:
        """The line where the next row starts."""
        self.size = 0
        return self.number + 1

    def __iter__(self) -> _TextLines:
        return self

    def __next__(self) -> str:
        self.number, line = next(self.lines)
        text = self.owner._decoded(line)
        if isinstance(text, BadRow):
            raise text
        self.size += len(line or b"")
        if self.size > LONGEST_ROW:
            raise BadRow(TOO_LONG)
        return text + "\n"


def _parsed(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        return BadRow("JSON nested too deeply")
    except msgspec.DecodeError:
        pass
    except UnicodeEncodeError:
        return BadRow("a lone surrogate")
    try:  # msgspec refuses a lone surrogate escape, which the standard library reads
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return BadRow("a lone surrogate")
    except (ValueError, RecursionError):
        return BadRow("broken JSON")
    return value


def _skip_white_space(stream: BinaryIO) -> bytes:
    """The first byte that is no white space, not consumed."""
    head = stream.peek(1 << 10) if hasattr(stream, "peek") else b""
    stripped = head.lstrip()
    return bytes(stripped[:1])
