"""``evalsuite.json``: what a training says about the checkpoint it wrote."""

from __future__ import annotations

from pathlib import Path

import msgspec

from evalsuite.errors import BadCheckpoint

CARD = "evalsuite.json"
"""Optional file in the folder, written by the training: name, family, stage, step, parent,
chat_template. It never changes an answer, so it is no part of the fingerprint."""


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a training says about the checkpoint it wrote.

    Attributes:
        stage: ``pt``, ``sft``, ``rm``, ``ppo``, … in the field's own words.
        step: optimiser steps of that stage.
        seed: of the training, where several were run that differ in nothing else.
        parent: the name of the checkpoint it was trained from.
        chat_template: a built-in template's name, if the folder holds none itself.
    """

    name: str = ""
    family: str = ""
    stage: str = ""
    step: int | None = None
    seed: int | None = None
    parent: str | None = None
    chat_template: str | None = None


def read_card(path: Path) -> Card:
    """The folder's ``evalsuite.json``, or an empty card; unknown keys are refused."""
    file = path / CARD
    if not file.is_file():
        return Card()
    try:
        return msgspec.json.decode(file.read_bytes(), type=Card)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise BadCheckpoint(
            str(fault), where=str(file), hint=f"known keys: {', '.join(Card.__struct_fields__)}"
        ) from None
