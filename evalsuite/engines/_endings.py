"""One generated answer in the making: its tokens so far, and where it ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from evalsuite.engines._tokens import Tokens
from evalsuite.request import FinishReason, Generated, Sampling

_WINDOW = 4
"""Tokens looked at beyond the length of a stop string, for those without text of their own."""


def end_ids(*said: Any) -> frozenset[int]:
    """The ids that end an answer, from whatever several places say: an id, a list of ids, or None."""
    listed = [one if isinstance(one, (list, tuple)) else [one] for one in said]
    return frozenset(int(i) for ids in listed for i in ids if i is not None)


class Answer:
    """An answer that grows token by token.

    Args:
        context: how many tokens fit, prompt and answer together; None for any number.

    Attributes:
        budget: tokens that it may have.
        generated: the ids so far.
    """

    def __init__(self, prompt: tuple[int, ...], sampling: Sampling, context: int | None) -> None:
        self.prompt = prompt
        self.sampling = sampling
        self.stops = tuple(stop for stop in sampling.stop if stop)
        self.budget = sampling.max_tokens
        if context is not None:
            self.budget = min(self.budget, context - len(prompt))
        self.generated: list[int] = []

    def grow(self, ids: Iterable[int], tokens: Tokens, ends: frozenset[int]) -> Generated | None:
        """Append tokens one by one; the answer, as soon as one of them completes it."""
        for token in ids:
            self.generated.append(token)
            done = self.finished(tokens, ends)
            if done is not None:
                return done
        return None

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
