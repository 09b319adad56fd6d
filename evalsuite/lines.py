"""JSON as it is written: compact lines, any Python text unharmed, no number lost.

msgspec does the work. It refuses lone surrogates, which hostile data and byte-level tokenizers do
produce; those values take the slower road through the standard library, which escapes them.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def encode(value: Any, *, sort: bool = False) -> bytes:
    """One JSON value without a line end; lone surrogates become ``\\udXXX`` escapes.

    Args:
        sort: sort the keys of objects, so that equal values give equal bytes.
    """
    try:
        return msgspec.json.encode(value, order="deterministic" if sort else None)
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(value)
        text = json.dumps(plain, ensure_ascii=True, separators=(",", ":"), sort_keys=sort)
        return text.encode("ascii")


def decode(line: bytes, kind: type[T]) -> T:
    """The value of a line as ``kind``; raises :class:`msgspec.DecodeError` where it is not one."""
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            plain = json.loads(line)
        except (ValueError, RecursionError) as fault:
            raise msgspec.DecodeError(str(fault)) from None
        return msgspec.convert(plain, kind)
