"""Generation: batches that are filled on the left, decoded step by step, and shrink as rows end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from evalsuite.engines._batching import Budget, Group, attempt, batches, group_by_prefix
from evalsuite.engines._model import Model
from evalsuite.engines._sampling import draw, penalise, probabilities
from evalsuite.engines._tokens import Tokens
from evalsuite.engines.base import Prepared
from evalsuite.request import Failure, FinishReason, Generate, Generated, Sampling

_LEAST_SHARED = 64
_LEAST_ROWS = 8
"""A shared prefix saves part of one pass; a full batch saves in every step. Small groups lose."""

_WINDOW = 4
"""Tokens looked at beyond the length of a stop string, for those without text of their own."""


class Row:
    """One answer in the making; starts anew each time it is put into a batch."""

    def __init__(self, item: int, prepared: Prepared, context: int | None) -> None:
        request = prepared.request
        assert isinstance(request, Generate)
        self.item = item
        self.prompt = prepared.prompt
        self.sampling: Sampling = request.sampling
        self.stops = tuple(stop for stop in self.sampling.stop if stop)
        self.budget = self.sampling.max_tokens
        if context is not None:
            self.budget = min(self.budget, context - len(self.prompt))

    def start(self, vocabulary: int, device: Any) -> None:
        """Forget an earlier attempt, and seed the draws."""
        import torch

        self.generated: list[int] = []
        self.generator = torch.Generator().manual_seed(self.sampling.seed % (1 << 63))
        self.seen = None
        if self.sampling.repetition_penalty != 1:
            self.seen = torch.zeros(vocabulary, dtype=torch.bool, device=device)
            self.seen[list(self.prompt)] = True

    def next_token(self, logits: Any, likeliest: int) -> int:
        """Choose a token from (vocabulary,) logits, whose greatest is ``likeliest``; append it."""
        token = likeliest
        if self.seen is not None:
            logits = penalise(logits, self.seen, self.sampling.repetition_penalty)
            token = int(logits.argmax())
        if self.sampling.temperature > 0:
            token = draw(probabilities(logits, self.sampling), self.generator)
        if self.seen is not None:
            self.seen[token] = True
        self.generated.append(token)
        return token

    def finished(self, tokens: Tokens, ends: frozenset[int]) -> Generated | None:
        """The answer, if the last token completed it."""
        if self.generated[-1] in ends:
            return self._answer(tokens.text_after(self.prompt, self.generated[:-1]), "stop")
        if self._may_stop(tokens):
            text = tokens.text_after(self.prompt, self.generated)
            places = [text.find(stop) for stop in self.stops if stop in text]
            if places:
                return self._answer(text[: min(places)], "stop")
        if len(self.generated) >= self.budget:
            return self._answer(tokens.text_after(self.prompt, self.generated), "length")
        return None

    def _may_stop(self, tokens: Tokens) -> bool:
        """Whether a stop string ends in the last token. Only the last few tokens are decoded.

        A token has a byte at least, so a stop string spans no more tokens than it has bytes.
        """
        if not self.stops:
            return False
        longest = max(len(stop.encode(errors="surrogatepass")) for stop in self.stops)
        last = self.generated[-(longest + _WINDOW) :]
        before = (*self.prompt[-_WINDOW * 2 :], *self.generated)[: -len(last)]
        text = tokens.text_after(before, last)
        return any(stop in text for stop in self.stops)

    def _answer(self, text: str, reason: FinishReason) -> Generated:
        return Generated(text, reason, len(self.prompt), tuple(self.generated))


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
        logits[:, tokens.size :] = -torch.inf  # rows of the embedding that are no token
        greatest, likeliest = logits.max(-1)
        if not bool(greatest.isfinite().all()):
            raise ArithmeticError("the model's logits are not numbers; try --dtype float32")
        chosen = zip(rows, logits, likeliest.tolist(), strict=True)
        drawn = [row.next_token(scores, token) for row, scores, token in chosen]
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
