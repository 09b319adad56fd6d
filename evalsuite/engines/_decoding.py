"""Generation: batches that are filled on the left, decoded step by step, and shrink as rows end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from evalsuite.engines._answer import Row, choose
from evalsuite.engines._batching import Budget, Group, attempt, batches, group_by_prefix
from evalsuite.engines._continuous import Continuous
from evalsuite.engines._model import Model
from evalsuite.engines._native import NativeModel
from evalsuite.engines._tokens import Tokens
from evalsuite.engines.base import Prepared
from evalsuite.request import Failure, Generated

_LEAST_SHARED = 64
_LEAST_ROWS = 8
"""A shared prefix saves part of one pass; a full batch saves in every step. Small groups lose."""


def generate(
    model: Model,
    tokens: Tokens,
    prepared: Sequence[tuple[int, Prepared]],
    *,
    ends: frozenset[int],
    context: int | None,
    cached: Budget,
    most: int,
) -> Iterator[tuple[int, Generated | Failure]]:
    """Answer every :class:`Generate`, each as soon as it is complete.

    Args:
        ends: ids that end an answer.
        cached: budget of one batch, in tokens of prompt and answer together.
        most: rows of one batch.
    """
    rows = [Row(index, item, context) for index, item in prepared]
    groups: list[Group[Row]] = [Group(0, rows)]
    if model.shares:
        groups = group_by_prefix(
            rows,
            lambda row: row.prompt,
            lambda row: len(row.prompt) - 1,
            least_tokens=_LEAST_SHARED,
            least_rows=_LEAST_ROWS,
        )

    def cost(row: Row) -> int:
        return len(row.prompt) + row.budget

    for group in groups:
        prefix = model.prefix(group.rows[0].prompt[: group.prefix]) if group.rows else None
        skipped = 0 if prefix is None else group.prefix
        if isinstance(model, NativeModel):
            steady = Continuous(model, tokens, ends, prefix, cached=cached, most=most)
            for row, answer in steady.answers(group.rows):
                yield row.item, answer
            continue

        def compute(
            batch: list[Row], prefix: Any = prefix, skipped: int = skipped
        ) -> Iterator[tuple[Row, Generated]]:
            return _decode(model, tokens, batch, ends, prefix, skipped)

        for batch in batches(sorted(group.rows, key=cost, reverse=True), cost, cached, most=most):
            for row, answer in attempt(batch, compute, cached):
                yield row.item, answer


def _decode(
    model: Model,
    tokens: Tokens,
    rows: list[Row],
    ends: frozenset[int],
    prefix: Any,
    skipped: int,
) -> Iterator[tuple[Row, Generated]]:
    """Decode a batch to its end; a finished row leaves it with its keys and values."""
    import torch

    device = model.device
    cache = model.new_cache() if prefix is None else model.repeated(prefix, len(rows))
    for row in rows:
        row.start(model.vocabulary, device)
    ids, mask, positions = (x.to(device) for x in _padded_left(rows, skipped))
    while rows:
        last = torch.full((len(rows),), ids.shape[1] - 1, device=device)
        places = (torch.arange(len(rows), device=device), last)
        logits = model.logits(ids, places, positions=positions, mask=mask, cache=cache)
        drawn = choose(rows, logits, tokens.size)
        keep = []
        for at, row in enumerate(rows):
            answer = row.finished(tokens, ends)
            if answer is None:
                keep.append(at)
            else:
                yield row, answer
        if not keep:
            return
        ids = torch.tensor([[drawn[at]] for at in keep], device=device)
        if len(keep) < len(rows):
            kept = torch.tensor(keep, device=device)
            cache.batch_select_indices(kept)
            mask, positions = mask[kept], positions[kept]
            rows = [rows[at] for at in keep]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        positions = positions[:, -1:] + 1


def _padded_left(rows: list[Row], skipped: int) -> tuple[Any, Any, Any]:
    """Ids (batch, time), mask (batch, skipped + time), positions (batch, time).

    The shared prefix stands before the padding, which the mask hides.
    """
    import torch

    width = max(len(row.prompt) for row in rows) - skipped
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.ones(len(rows), skipped + width, dtype=torch.long)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    for at, row in enumerate(rows):
        padding = width - (len(row.prompt) - skipped)
        ids[at, padding:] = torch.tensor(row.prompt[skipped:])
        mask[at, skipped : skipped + padding] = 0
        positions[at, padding:] = torch.arange(skipped, len(row.prompt))
    return ids, mask, positions
