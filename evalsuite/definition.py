"""Definitions that people write in YAML: read, and refused with the nearest name where a key is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from evalsuite.errors import BadDefinition, DataMissing, nearest

T = TypeVar("T", bound=msgspec.Struct)


def read_yaml(file: Path) -> Any:
    """What a YAML file says, nothing of it checked.

    Raises:
        DataMissing: no such file.
        BadDefinition: not YAML; says on which line.
    """
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise DataMissing(f"cannot read the definition: {reason}", where=str(file)) from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as fault:
        mark = getattr(fault, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(fault, "problem", None) or type(fault).__name__
        raise BadDefinition(f"not YAML: {problem}", where=f"{file}{line}") from None


def check_keys(raw: Any, kind: type[msgspec.Struct], where: str) -> None:
    """Refuse what is no mapping, or has a key that ``kind`` has not; raises :class:`BadDefinition`."""
    known = kind.__struct_fields__
    if not isinstance(raw, dict):
        raise BadDefinition(
            "not a mapping of keys", where=where, hint=f"start it with `{known[0]}:`"
        )
    for key in raw:
        if key not in known:
            refuse("key", str(key), known, where)


def converted(raw: Any, kind: type[T], where: str) -> T:
    """The mapping as a structure; raises :class:`BadDefinition` for a value of the wrong kind."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as fault:
        raise BadDefinition(str(fault), where=where) from None


def refuse(noun: str, name: str, known: Sequence[str], where: str) -> NoReturn:
    """Raise :class:`BadDefinition` for a name that is none of the known ones."""
    near = nearest(name, known)
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(dict.fromkeys(known))}"
    raise BadDefinition(f"no {noun} {name!r}", where=where, hint=hint)
