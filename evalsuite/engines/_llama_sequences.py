"""Rows of a batch as sequences of llama.cpp's cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

FIRST = 1
"""Sequences from here on are answers in the making; the one before is the text being scored."""


class Entry(NamedTuple):
    """One token of a batch: what, where in which sequences, and whether its logits are wanted."""

    token: int
    position: int
    sequences: tuple[int, ...]
    wanted: bool


class Sequences:
    """The rows of a batch that is being decoded, each in a sequence of its own.

    Args:
        drop: frees a sequence.
    """

    def __init__(self, drop: Any) -> None:
        self._drop = drop
        self._slots: list[int] = []
        self._lengths: list[int] = []

    def extended(self, ids: Any, mask: Any, wanted: set[tuple[int, int]]) -> list[Entry]:
        """The tokens of ids (rows, time) that the mask shows, behind those that are there.

        What all rows begin with is one entry for all of them.
        """
        shown = mask[:, -ids.shape[1] :].bool()
        steps = [row.nonzero().flatten().tolist() for row in shown]
        tokens = [row[seen].tolist() for row, seen in zip(ids, shown, strict=True)]
        shared = 0
        if not self._slots:
            self._slots = [FIRST + at for at in range(len(ids))]
            shared = min(min(common(tokens[0], row) for row in tokens), min(map(len, tokens)) - 1)
            self._lengths = [shared] * len(ids)
        entries = [
            Entry(token, at, tuple(self._slots), False)
            for at, token in enumerate(tokens[0][:shared])
        ]
        for row, slot in enumerate(self._slots):
            for step, token in zip(steps[row][shared:], tokens[row][shared:], strict=True):
                entries.append(Entry(token, self._lengths[row], (slot,), (row, step) in wanted))
                self._lengths[row] += 1
        return entries

    def batch_select_indices(self, kept: Any) -> None:
        """Keep these rows; the others are done."""
        rows = kept.tolist()
        for row, slot in enumerate(self._slots):
            if row not in rows:
                self._drop(slot)
        self._slots = [self._slots[row] for row in rows]
        self._lengths = [self._lengths[row] for row in rows]


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    pairs = zip(left, right, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
