"""One answer in the making: how its tokens are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalsuite.engines._endings import Answer
from evalsuite.engines._sampling import draw, penalise, probabilities
from evalsuite.engines.base import Prepared
from evalsuite.request import Generate


class Row(Answer):
    """One answer of a batch; starts anew each time it is put into one."""

    def __init__(self, item: int, prepared: Prepared, context: int | None) -> None:
        request = prepared.request
        assert isinstance(request, Generate)
        super().__init__(prepared.prompt, request.sampling, context)
        self.item = item

    def start(self, vocabulary: int, device: Any) -> None:
        """Forget an earlier attempt, and seed the draws."""
        import torch

        self.generated = []
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


def choose(rows: Sequence[Row], logits: Any, size: int) -> list[int]:
    """The next token of each row, appended to it, from logits (rows, vocabulary), which are changed.

    Args:
        size: tokens of the tokenizer; columns from here on are padding.

    Raises:
        ArithmeticError: logits that are not numbers.
    """
    import torch

    logits[:, size:] = -torch.inf
    greatest, likeliest = logits.max(-1)
    if not bool(greatest.isfinite().all()):
        raise ArithmeticError("the model's logits are not numbers; try --dtype float32")
    chosen = zip(rows, logits, likeliest.tolist(), strict=True)
    return [row.next_token(scores, token) for row, scores, token in chosen]
