"""JSON as it is written: compact lines, any Python text unharmed, no number lost.

msgspec does the work. It refuses lone surrogates, which hostile data and byte-level tokenizers do
produce; those values take the slower road through the standard library, which escapes them.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def encode(value: Any) -> bytes:
    """One JSON value without a line end; lone surrogates become ``\\udXXX`` escapes."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(value)
        return json.dumps(plain, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def decode(line: bytes, kind: type[T]) -> T:
    """The value of a line as ``kind``; raises :class:`msgspec.DecodeError` where it is not one."""
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        try:
            plain = json.loads(line)
        except (ValueError, RecursionError) as fault:
            raise msgspec.DecodeError(str(fault)) from None
        return msgspec.convert(plain, kind)
