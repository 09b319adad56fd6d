"""JSON as it is written: compact lines, any Python text unharmed, no number lost.

msgspec does the work. It refuses lone surrogates, which hostile data and byte-level tokenizers do
produce; those values take the slower road through the standard library, which escapes them.
"""

from __future__ import annotations

import json
import math
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
        plain = null_for_nan(msgspec.to_builtins(value))
        text = json.dumps(plain, ensure_ascii=True, separators=(",", ":"), sort_keys=sort)
        return text.encode("ascii")


def pretty(value: Any) -> bytes:
    """The same over several lines, for files that people read too."""
    line = encode(value)
    try:
        return msgspec.json.format(line, indent=1)
    except msgspec.DecodeError:
        return json.dumps(json.loads(line), ensure_ascii=True, indent=1).encode("ascii")


def null_for_nan(value: Any) -> Any:
    """Plain values with None for each number that is not finite, which JSON cannot write."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: null_for_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [null_for_nan(entry) for entry in value]
    return value


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
