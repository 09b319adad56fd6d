"""Keys and values of the answers in the making: a fixed number of slots, filled, advanced and freed one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalsuite.engines._native import Keys, NativeLayer, NativeModel, Prefix


class Slots:
    """A static cache of keys and values for up to ``count`` texts of up to ``length`` tokens.

    The texts under way stand in the first slots, so that a step computes on views. Memory that was
    never written costs nothing. Everything is kept in float32: a processor's batched products of
    bfloat16 would copy all of it in every step.

    Args:
        prefix: a text that stands before all of them, not counted in ``length``.

    Attributes:
        lengths: tokens of each text under way, the prefix apart.
    """

    def __init__(
        self, model: NativeModel, count: int, length: int, prefix: Prefix | None = None
    ) -> None:
        import torch

        self.count, self.length = count, length
        self.lengths: list[int] = []
        self._model, self._prefix = model, prefix
        self._begun = 0 if prefix is None else prefix.length
        # zeros, since 0 × whatever stands in memory may be nan
        self._kept = [
            Keys(
                torch.zeros(count, layer.shared, length, layer.width),
                torch.zeros(count, layer.shared, length, layer.width),
            )
            for layer in model.layers
        ]

    @property
    def free(self) -> int:
        """How many more texts there is room for."""
        return self.count - len(self.lengths)

    def add(self, texts: Sequence[Sequence[int]]) -> Any:
        """Take texts up, in one pass: logits (n, vocabulary) of the token after each."""
        import torch

        width, first = max(map(len, texts)), len(self.lengths)
        ids = torch.zeros(len(texts), width, dtype=torch.long)
        for at, text in enumerate(texts):
            ids[at, : len(text)] = torch.tensor(text)
        ends = torch.tensor([len(text) - 1 for text in texts])
        fresh: list[Keys] = []
        logits = self._model.logits(
            ids, (torch.arange(len(texts)), ends), cache=self._prefix, kept=fresh
        )
        slots = slice(first, first + len(texts))
        for kept, new in zip(self._kept, fresh, strict=True):
            kept.keys[slots, :, :width] = new.keys.transpose(1, 2)
            kept.values[slots, :, :width] = new.values.transpose(1, 2)
        self.lengths += [len(text) for text in texts]
        return logits

    def step(self, tokens: Sequence[int]) -> Any:
        """One more token of each text under way: logits (n, vocabulary) of the token after it."""
        import torch

        with torch.no_grad():
            places = torch.tensor(self.lengths)
            ids = torch.tensor(tokens)[:, None]
            hidden, cos, sin = self._model.embedded(ids, (places + self._begun)[:, None])
            unseen = torch.arange(int(places.max()) + 1) > places[:, None]
            for number, layer in enumerate(self._model.layers):
                queries, new = layer.project(hidden, cos, sin)
                attended = self._attend(number, layer, queries[:, 0], new, places, unseen)
                hidden = layer.finish(hidden, attended[:, None])
            self.lengths = [length + 1 for length in self.lengths]
            return self._model.head(hidden[:, 0])

    def drop(self, slot: int) -> None:
        """Free a slot; the last text under way moves into it."""
        last = len(self.lengths) - 1
        if slot != last:
            used = self.lengths[last]
            for kept in self._kept:
                kept.keys[slot, :, :used] = kept.keys[last, :, :used]
                kept.values[slot, :, :used] = kept.values[last, :, :used]
            self.lengths[slot] = self.lengths[last]
        self.lengths.pop()

    def _attend(
        self, number: int, layer: NativeLayer, queries: Any, new: Keys, places: Any, unseen: Any
    ) -> Any:
        """Attention of one new token of each text: (n, heads · width).

        Args:
            queries: (n, heads, width).
            places: (n,), where the new token's keys and values go.
            unseen: (n, longest) of bool.
        """
        import torch

        rows, longest = unseen.shape
        times = layer.heads // layer.shared
        kept = self._kept[number]
        every = torch.arange(rows)
        kept.keys[every, :, places] = new.keys[:, 0].float()
        kept.values[every, :, places] = new.values[:, 0].float()
        keys, values = (part[:rows].flatten(0, 1)[:, :longest] for part in (kept.keys, kept.values))
        grouped = queries.float().reshape(rows * layer.shared, times, layer.width)
        scores = torch.bmm(grouped, keys.transpose(1, 2)).view(rows, layer.heads, longest)
        scores = scores.masked_fill_(unseen[:, None], -torch.inf)
        if self._prefix is None:
            weights = scores.mul_(layer.scale).softmax(-1)
            attended = torch.bmm(weights.view(-1, times, longest), values)
            return attended.view(rows, layer.heads * layer.width).to(queries.dtype)
        shared = self._prefix.layers[number]
        by_head = queries.transpose(0, 1)
        before = torch.bmm(by_head, shared.keys[0].transpose(1, 2)).transpose(0, 1)
        both = torch.cat((before.float(), scores), -1).mul_(layer.scale)
        weights = both.softmax(-1)
        own = weights[..., self._begun :].reshape(-1, times, longest)
        attended = torch.bmm(own, values).view(rows, layer.heads, layer.width)
        by_head = weights[..., : self._begun].transpose(0, 1).to(queries.dtype)
        attended = attended.to(queries.dtype) + torch.bmm(by_head, shared.values[0]).transpose(0, 1)
        return attended.reshape(rows, layer.heads * layer.width)
