"""The raw lines of a file that may be compressed, huge, or not text at all."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from evalsuite_train.errors import BadData

LONGEST_ROW = 4 << 20
"""Bytes of one row. A longer one is nearly always a broken quote or a binary file; it is named and left out."""

TOO_LONG = f"longer than {LONGEST_ROW >> 20} MiB"

SNIFF = 1 << 16
MARKS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
}


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed where its content is gzip; a UTF-8 mark is left out.

    Raises:
        BadData: no such file, an empty one, another compression or wide characters, or a broken archive.
    """
    try:
        with path.open("rb") as raw:
            head = raw.peek(4)[:4] if isinstance(raw, io.BufferedReader) else b""
            for mark, kind in MARKS.items():
                if head.startswith(mark):
                    raise BadData(
                        f"the file is {kind}",
                        where=str(path),
                        hint="convert it to UTF-8 text or to .gz",
                    )
            stream: BinaryIO = gzip.GzipFile(fileobj=raw) if head.startswith(b"\x1f\x8b") else raw  # type: ignore[assignment]
            buffered = io.BufferedReader(stream, SNIFF)  # type: ignore[type-var]
            if buffered.peek(3)[:3] == b"\xef\xbb\xbf":
                buffered.read(3)
            if not buffered.peek(1):
                raise BadData(
                    "the file is empty", where=str(path), hint="remove it from the sources"
                )
            yield buffered
    except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
        raise BadData(
            f"the compressed file is damaged: {fault}",
            where=str(path),
            hint="fetch it again; nothing of it was used",
        ) from fault
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise BadData(
            f"cannot read: {reason}", where=str(path), hint="check the path in the recipe"
        ) from fault


def lines_of(stream: BinaryIO, longest: int = LONGEST_ROW) -> Iterator[tuple[int, bytes | None]]:
    """Each line's number from 1 and its bytes without the line end; None for one longer than ``longest``."""
    number = 0
    while line := stream.readline(longest + 1):
        number += 1
        if len(line) > longest and not line.endswith(b"\n"):
            while (rest := stream.readline(longest)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        else:
            yield number, line.rstrip(b"\r\n")


def sniff(path: Path) -> bytes:
    """The file's first 64 KiB, decompressed."""
    with opened(path) as stream:
        return stream.read(SNIFF)
