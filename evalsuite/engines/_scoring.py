"""Exact log-likelihoods: what is shared is computed once, and only the logits needed.

Probabilities are over all columns of the logits, padded rows of the vocabulary included: the
likelihood is the checkpoint's own, and equal to what lm-evaluation-harness computes. Choices at one
position share the normaliser, so their order does not depend on it. (Generation does leave the
padded ids out, since it could emit one.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from evalsuite.engines._batching import Budget, Group, attempt, batches, group_by_prefix
from evalsuite.engines._model import Model
from evalsuite.engines.base import Prepared
from evalsuite.request import Choose, Chosen, Failure, Scored, most_likely

Ids = tuple[int, ...]

_LOGITS = 1 << 26
"""Logits of one batch, in numbers: 256 MB of float32."""


class Wanted(msgspec.Struct, frozen=True):
    """The token ``targets[i]`` is predicted at place ``places[i]`` of the row, for one tail."""

    tail: int
    places: Ids
    targets: Ids


class Row(msgspec.Struct, frozen=True):
    """One row of a batch: a trunk, and branches that see the trunk and themselves only.

    Attributes:
        item: index of the question.
        trunk: length of the part that is plain text.
        branches: (start, end) of each branch, after the trunk.
    """

    item: int
    tokens: Ids
    trunk: int
    branches: tuple[tuple[int, int], ...]
    wanted: tuple[Wanted, ...]


class Likelihood(msgspec.Struct, frozen=True):
    """Of one tail: the sum of its log-probabilities, and whether each was the greatest."""

    logprob: float
    greedy: bool


def score(
    model: Model,
    prepared: Sequence[tuple[int, Prepared]],
    *,
    context: int | None,
    tokens: Budget,
) -> Iterator[tuple[int, Chosen | Scored | Failure]]:
    """Answer every :class:`Choose` and :class:`Score`, as each is done.

    Args:
        prepared: index and request, all with at least one tail.
        context: tokens of one row at most.
        tokens: budget of one batch.
    """
    asked = dict(prepared)
    rows = [r for i, p in prepared for r in plan(i, p, context=context, branching=model.shares)]
    open_rows: dict[int, int] = {}
    for row in rows:
        open_rows[row.item] = open_rows.get(row.item, 0) + 1
    found: dict[int, dict[int, Likelihood]] = {index: {} for index in asked}
    faults: dict[int, Failure] = {}
    for group in _groups(model, rows):
        for row, result in _score_group(model, group, tokens):
            if isinstance(result, Failure):
                faults[row.item] = result
            else:
                found[row.item] |= result
            open_rows[row.item] -= 1
            if not open_rows[row.item]:
                tails = found.pop(row.item)
                fault = faults.get(row.item)
                yield row.item, fault or _response(asked[row.item], tails)


def plan(index: int, prepared: Prepared, *, context: int | None, branching: bool) -> list[Row]:
    """The rows of one question: one that branches into the tails, or one for each tail."""
    prompt, tails = prepared.prompt, prepared.tails
    fits = context is None or len(prompt) + max(map(len, tails)) <= context + 1
    if branching and fits and len(tails) > 1:
        return [_branching_row(index, prompt, tails)]
    rows = []
    for number, tail in enumerate(tails):
        tokens = prompt + tail
        if context is not None:
            tokens = tokens[-(context + 1) :]
        first = len(tokens) - len(tail) - 1
        wanted = Wanted(number, tuple(range(first, len(tokens) - 1)), tail)
        rows.append(Row(index, tokens[:-1], len(tokens) - 1, (), (wanted,)))
    return rows


def _branching_row(index: int, prompt: Ids, tails: tuple[Ids, ...]) -> Row:
    tokens, branches, wanted = list(prompt), [], []
    for number, tail in enumerate(tails):
        start = len(tokens)
        tokens += tail[:-1]
        if len(tail) > 1:
            branches.append((start, len(tokens)))
        wanted.append(Wanted(number, (len(prompt) - 1, *range(start, len(tokens))), tail))
    return Row(index, tuple(tokens), len(prompt), tuple(branches), tuple(wanted))


def _groups(model: Model, rows: list[Row]) -> list[Group[Row]]:
    if not rows:
        return []
    if not model.shares:
        return [Group(0, rows)]
    return group_by_prefix(rows, lambda row: row.tokens, _unwanted, nested=model.nests)


def _unwanted(row: Row) -> int:
    """Tokens at the start of a row that predict nothing that is asked for."""
    return min(place for wanted in row.wanted for place in wanted.places)


def _score_group(
    model: Model, group: Group[Row], tokens: Budget
) -> Iterator[tuple[Row, dict[int, Likelihood] | Failure]]:
    prefix = model.prefix(group.rows[0].tokens[: group.prefix])
    skipped = 0 if prefix is None else group.prefix

    def compute(batch: list[Row]) -> Iterator[tuple[Row, dict[int, Likelihood]]]:
        return iter(zip(batch, _likelihoods(model, batch, prefix, skipped), strict=True))

    def cost(row: Row) -> int:
        logits = sum(len(wanted.places) for wanted in row.wanted) * model.vocabulary
        return max(len(row.tokens) - skipped, logits * tokens.tokens // _LOGITS)

    rows = sorted(group.rows, key=cost, reverse=True)
    for batch in batches(rows, cost, tokens):
        yield from attempt(batch, compute, tokens)


def _likelihoods(
    model: Model, batch: list[Row], prefix: Any, skipped: int
) -> list[dict[int, Likelihood]]:
    """One forward pass over the rows, less the ``skipped`` tokens that ``prefix`` stands for."""
    import torch

    width = max(len(row.tokens) for row in batch) - skipped
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    for at, row in enumerate(batch):
        ids[at, : len(row.tokens) - skipped] = torch.tensor(row.tokens[skipped:])
    place_of: dict[tuple[int, int], int] = {}
    picks = [
        [
            [place_of.setdefault((at, place - skipped), len(place_of)) for place in w.places]
            for w in row.wanted
        ]
        for at, row in enumerate(batch)
    ]
    at_rows, at_steps = torch.tensor(list(place_of)).T.to(model.device)
    positions, mask = _layout(batch, width, skipped) if model.shares else (None, None)
    logits = model.logits(
        ids.to(model.device),
        (at_rows, at_steps),
        positions=None if positions is None else positions.to(model.device),
        mask=None if mask is None else mask.to(model.device),
        cache=None if prefix is None else model.repeated(prefix, len(batch)),
    )
    flat_picks = [pick for row in picks for tail in row for pick in tail]
    targets = [t for row in batch for w in row.wanted for t in w.targets]
    chosen, best = _gather(logits, flat_picks, targets)
    results, at = [], 0
    for row in batch:
        tails = {}
        for wanted in row.wanted:
            end = at + len(wanted.targets)
            total = math.fsum(chosen[at:end])
            tails[wanted.tail] = Likelihood(total, all(best[at:end]))
            at = end
        results.append(tails)
    return results


def _gather(logits: Any, picks: list[int], targets: list[int]) -> tuple[list[float], list[bool]]:
    """Log-probability of each target at its row of ``logits``, and whether it is the greatest."""
    import torch

    at = torch.tensor(picks, device=logits.device)
    ids = torch.tensor(targets, device=logits.device)
    chosen = (logits[at, ids] - logits.logsumexp(-1)[at]).tolist()
    if not all(map(math.isfinite, chosen)):
        raise ArithmeticError("the model's log-likelihoods are not numbers; try --dtype float32")
    return chosen, (logits.argmax(-1)[at] == ids).tolist()


def _layout(batch: list[Row], width: int, skipped: int) -> tuple[Any, Any]:
    """Positions, and the mask that keeps branches apart; no mask where plain causality will do.

    Padding is on the right, where nothing that is wanted can see it.

    Returns:
        (batch, width) positions, and None or (batch, 1, width, skipped + width) of bool.
    """
    import torch

    positions = torch.arange(skipped, skipped + width).repeat(len(batch), 1)
    for at, row in enumerate(batch):
        for start, end in row.branches:
            steps = torch.arange(row.trunk, row.trunk + end - start)
            positions[at, start - skipped : end - skipped] = steps
        positions[at, len(row.tokens) - skipped :] = 0
    if not any(row.branches for row in batch):
        return positions, None
    causal = torch.ones(width, skipped + width, dtype=torch.bool).tril(skipped)
    mask = causal.repeat(len(batch), 1, 1)
    for at, row in enumerate(batch):
        for start, end in row.branches:
            mask[at, start - skipped : end - skipped, row.trunk : start] = False
    return positions, mask[:, None]


def _response(prepared: Prepared, tails: dict[int, Likelihood]) -> Chosen | Scored:
    length = len(prepared.prompt)
    if isinstance(prepared.request, Choose):
        logprobs = tuple(tails[number].logprob for number in range(len(prepared.tails)))
        counts = tuple(map(len, prepared.tails))
        return Chosen(most_likely(logprobs), logprobs, counts, length)
    only = tails[0]
    return Scored(only.logprob, len(prepared.tails[0]), only.greedy, length)
