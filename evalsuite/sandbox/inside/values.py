"""Values that cross from one cell to the other: built-in types by content, the rest by reference.

JSON, in which everything that JSON has not is a list ``[type, content]``. Reading makes exact
built-in types only, so that no ``__eq__`` of a program can take part in a comparison of the
checks. A subclass of a built-in type crosses as that type; any other object as a number under
which its own cell keeps it.
"""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import fractions
from collections.abc import Callable, Iterable
from typing import Any

Json = Any
_EXACT = 1 << 53

_SEQUENCES: dict[str, Callable[[Iterable[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
}
_PAIRS: dict[str, Callable[[Iterable[Any]], Any]] = {
    "dict": dict,
    "OrderedDict": collections.OrderedDict,
    "Counter": lambda pairs: collections.Counter(dict(pairs)),
}
_TEXTS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "bytearray": (bytearray, bytearray.hex, bytearray.fromhex),
    "complex": (complex, repr, complex),
    "Decimal": (decimal.Decimal, str, decimal.Decimal),
    "Fraction": (fractions.Fraction, str, fractions.Fraction),
    "datetime": (
        datetime.datetime,
        datetime.datetime.isoformat,
        datetime.datetime.fromisoformat,
    ),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
}
_BASES: tuple[type, ...] = (
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    collections.Counter,
    collections.OrderedDict,
    dict,
    collections.deque,
    list,
    tuple,
    set,
    frozenset,
)


class Unreadable(ValueError):
    """A message that no honest cell writes."""


def encode(value: Any, refer: Callable[[Any], Json]) -> Json:
    """``value`` as JSON.

    Args:
        value: anything.
        refer: makes JSON of an object that is of no built-in type.

    Raises:
        RecursionError: it contains itself, or is too deep.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is float:
        return value
    if kind is int:
        return value if -_EXACT < value < _EXACT else ["int", hex(value)]
    name = kind.__name__
    if name in _SEQUENCES and kind.__module__ in ("builtins", "collections"):
        return [name, [encode(item, refer) for item in value]]
    if name in _PAIRS and kind.__module__ in ("builtins", "collections"):
        return [name, [[encode(k, refer), encode(v, refer)] for k, v in value.items()]]
    if name in _TEXTS and kind is _TEXTS[name][0]:
        return [name, _TEXTS[name][1](value)]
    if kind is range:
        return ["range", [encode(n, refer) for n in (value.start, value.stop, value.step)]]
    if kind is datetime.timedelta:
        return ["timedelta", [value.days, value.seconds, value.microseconds]]
    label = getattr(value, "__name__", "") if kind is type else ""
    if label and vars(builtins).get(label) is value:
        return ["type", label]
    if kind.__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return encode(value.item(), refer)
    for base in _BASES:
        if isinstance(value, base):
            return encode(base(value), refer)
    return refer(value)


def decode(data: Json, resolve: Callable[[Json], Any]) -> Any:
    """The value that :func:`encode` wrote.

    Args:
        data: JSON.
        resolve: gives the object for what ``refer`` made.

    Raises:
        Unreadable: ``data`` is nothing that :func:`encode` writes.
    """
    if data is None or type(data) in (bool, str, float, int):
        return data
    try:
        name, content = data
        if name == "int":
            return int(content, 16)
        if name in _SEQUENCES:
            return _SEQUENCES[name]([decode(item, resolve) for item in content])
        if name in _PAIRS:
            return _PAIRS[name]([(decode(k, resolve), decode(v, resolve)) for k, v in content])
        if name in _TEXTS:
            return _TEXTS[name][2](content)
        if name == "range":
            return range(*[decode(n, resolve) for n in content])
        if name == "timedelta":
            return datetime.timedelta(*content)
        if name == "type" and isinstance(getattr(builtins, content), type):
            return getattr(builtins, content)
    except (TypeError, ValueError, AttributeError, ArithmeticError) as fault:
        raise Unreadable(f"{type(fault).__name__}: {fault}") from None
    if name == "object":
        return resolve(content)
    raise Unreadable(f"a value of type {str(name)[:50]!r}")
