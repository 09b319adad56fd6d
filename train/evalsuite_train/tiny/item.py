"""One item of the tiny ladder: a question, a good reply, flawed ones, and the rules a reply is held to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random
from typing import Any, Literal

import msgspec

Language = Literal["zh", "en"]
Split = Literal["train", "validation", "test"]
TEST, VALIDATION = 0.15, 0.05


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A question of one task.

    Attributes:
        prompt: the question, without any template.
        reply: a good reply.
        flawed: replies a careless writer gives instead; each breaks a rule.
        rules: what a good reply satisfies (see :mod:`evalsuite_train.rules`).
        content: what the item is about, whatever its wording and language; items of one content
            stand in the same split, so that nothing tested was trained on in other words.
        document: the same knowledge as a text for PT.
        fields: what the shipped test sample holds besides.
    """

    task: str
    language: Language
    prompt: str
    reply: str
    flawed: tuple[str, ...] = ()
    rules: tuple[dict[str, Any], ...] = ()
    content: str
    document: str
    fields: dict[str, Any] = {}

    @property
    def split(self) -> Split:
        """Where the item belongs."""
        return split_of(self.task, self.content)


def split_of(task: str, content: str) -> Split:
    """Where a content belongs, by a hash: independent of seed, order and count."""
    digest = hashlib.sha256(f"{task}|{content}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < TEST:
        return "test"
    return "validation" if place < TEST + VALIDATION else "train"


Generator = Callable[[Random], Item]
"""Draws one item of a task, of any split."""
