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

from evalsuite.definition import check_keys, converted, read_yaml, refuse
from evalsuite.errors import BadDefinition

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
    raw = read_yaml(file)
    check_keys(raw, Definition, str(file))
    definition = converted(raw, Definition, str(file))
    _check(definition, str(file))
    return definition


def _check(definition: Definition, where: str) -> None:
    if definition.language not in LANGUAGES:
        refuse("language", definition.language, LANGUAGES, where)
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
