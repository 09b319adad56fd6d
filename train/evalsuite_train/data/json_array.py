"""The objects of a JSON array, one at a time, however large the file.

Written by hand because ``json`` and ``msgspec`` need the whole file in memory, and ``ijson`` stops for good
at the first syntax error, where a bad row must be named and the next one read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

OUTSIDE = re.compile(rb'["\[\]{},\n]')
INSIDE = re.compile(rb'["\\\n]')
CHUNK = 1 << 16


def elements(stream: BinaryIO, longest: int) -> Iterator[tuple[int, bytes | None]]:
    """The line where an element starts, and its bytes; None for one longer than ``longest`` bytes.

    The stream starts at the array's bracket. What stands between the commas of the outermost level
    is an element, sound or not.

    Raises:
        ValueError: the array is not closed, or closed before the end of the file: a bracket or quote is
            missing somewhere, and rows behind it cannot be told apart. Carries the line of the suspect.
    """
    depth, line, started = 0, 1, 1
    in_string = skip = False
    piece = bytearray()
    too_long = False

    def take(part: bytes) -> None:
        nonlocal too_long, started
        if not piece and not too_long:
            stripped = part.lstrip()
            if not stripped:
                return
            started = line
            part = stripped
        if too_long or len(piece) + len(part) > longest:
            too_long = True
            piece.clear()
        else:
            piece.extend(part)

    while chunk := stream.read(CHUNK):
        start = position = 0
        if skip:  # the byte after a backslash at the end of the last chunk
            position, skip = 1, False
        while found := (INSIDE if in_string else OUTSIDE).search(chunk, position):
            token, position = found.group(), found.end()
            if token == b"\n":
                take(chunk[start:position])
                start = position
                line += 1
            elif token == b"\\":
                skip = position == len(chunk)
                position += 1
            elif token == b'"':
                in_string = not in_string
            elif token in b"[{":
                depth += 1
                if depth == 1:
                    start = position
            elif token in b"]}" and depth > 1:
                depth -= 1
            elif depth == 1 and token in b",]":
                take(chunk[start : position - 1])
                start = position
                if piece or too_long:
                    yield started, None if too_long else bytes(piece)
                piece.clear()
                too_long = False
                if token == b"]":
                    if chunk[position:].strip() or stream.read(CHUNK).strip():
                        raise ValueError(f"more stands behind the array, which ends in line {line}")
                    return
        take(chunk[start:])
    raise ValueError(f"the array is not closed; its last row starts in line {started}")
