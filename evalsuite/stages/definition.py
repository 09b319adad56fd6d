"""What a page of stages shows, in YAML; every key may be left out.

title: The tiny ladder
language: en
family: tiny
tasks: [arithmetic, translation]
compare: [tiny-sft, tiny-ppo]
margin: 5
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from evalsuite.errors import BadDefinition, DataMissing, nearest

LANGUAGES = ("en", "zh")


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of the runs.

    Attributes:
        family: whose training, as the checkpoints' cards say; the one with most runs if empty.
        tasks: only these, in this order; every task of the runs if empty.
        compare: the two checkpoints whose samples stand side by side; if empty, the last stage
            without an alarm and its parent.
        margin: how many points a score may fall before it is called a loss, on the scale that tables
            show: 100 for all right, or the points of BLEU and chrF.
    """

    title: str = "Stages of training"
    language: str = "en"
    family: str = ""
    tasks: tuple[str, ...] = ()
    compare: tuple[str, ...] = ()
    margin: float = 5.0


def read_definition(file: Path) -> Definition:
    """Read and check a definition.

    Raises:
        DataMissing: no such file.
        BadDefinition: not YAML, or keys that are unknown or of the wrong kind.
    """
    import yaml

    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise DataMissing(f"cannot read the definition: {reason}", where=str(file)) from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as fault:
        mark = getattr(fault, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(fault, "problem", None) or type(fault).__name__
        raise BadDefinition(f"not YAML: {problem}", where=f"{file}{line}") from None
    if not isinstance(raw, dict):
        raise BadDefinition("not a mapping of keys", where=str(file), hint="start it with `title:`")
    known = Definition.__struct_fields__
    for key in raw:
        if key not in known:
            near = nearest(str(key), known)
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
            raise BadDefinition(f"no key {str(key)!r}", where=str(file), hint=hint)
    try:
        definition = msgspec.convert(raw, Definition)
    except msgspec.ValidationError as fault:
        raise BadDefinition(str(fault), where=str(file)) from None
    _check(definition, str(file))
    return definition


def _check(definition: Definition, where: str) -> None:
    if definition.language not in LANGUAGES:
        raise BadDefinition(
            f"no language {definition.language!r}", where=where, hint=f"one of {LANGUAGES}"
        )
    if len(definition.compare) not in (0, 2):
        raise BadDefinition(
            f"compare names {len(definition.compare)} checkpoints",
            where=where,
            hint="name two, or leave it out",
        )
    if not 0 <= definition.margin < float("inf"):
        raise BadDefinition(
            f"a margin of {definition.margin}", where=where, hint="0 or more points"
        )
