"""Rollouts as tensors: prompts padded on the left, replies on the right, and the models' view of them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evalsuite_train.generation import PAD, Reply, positions
from evalsuite_train.sharding import inside


class Rollout(NamedTuple):
    """Prompts and replies of one batch.

    Attributes:
        ids: (B, P + R) tokens; every reply starts at column ``start`` = P.
        mask: (B, P + R) bool, real tokens; a padding id inside a reply counts as a token.
        actions: (B, R) bool, the tokens the policy chose: the reply and the EOS that ends it.
        start: P.
    """

    ids: Tensor
    mask: Tensor
    actions: Tensor
    start: int

    def to(self, device: torch.device) -> Rollout:
        """The same on a device."""
        return Rollout(
            self.ids.to(device), self.mask.to(device), self.actions.to(device), self.start
        )

    def rows(self, rows: Tensor) -> Rollout:
        """Some rows only, without the columns that are padding in all of them."""
        mask = self.mask[rows]
        width = int(self.actions[rows].sum(-1).max())
        left = int(mask[:, : self.start].int().argmax(-1).min())
        right = self.start + width
        return Rollout(
            self.ids[rows, left:right],
            mask[:, left:right],
            self.actions[rows, :width],
            self.start - left,
        )


def rollout(prompts: Sequence[Sequence[int]], replies: Sequence[Reply], eos: int) -> Rollout:
    """Lay prompts and their replies out; a finished reply gets its EOS back."""
    said = [[*reply.ids, eos] if reply.finished else reply.ids for reply in replies]
    start, width = max(map(len, prompts)), max(map(len, said))
    ids = torch.full((len(prompts), start + width), PAD)
    mask = torch.zeros(len(prompts), start + width, dtype=torch.bool)
    for row, (prompt, reply) in enumerate(zip(prompts, said, strict=True)):
        ids[row, start - len(prompt) : start + len(reply)] = torch.tensor([*prompt, *reply])
        mask[row, start - len(prompt) : start + len(reply)] = True
    return Rollout(ids, mask, mask[:, start:].clone(), start)


class Said(NamedTuple):
    """What a model thinks of the actions, each (B, R), 0 where there is none."""

    logprobs: Tensor
    entropy: Tensor
    hidden: Tensor


def states(decoder: Any, batch: Rollout, autocast: torch.dtype | None) -> Tensor:
    """Hidden states (N, hidden) from which each of the batch's N actions is chosen, float32.

    The state before the action in column c is that of column c − 1; the last column is never needed.
    """
    ids, mask = batch.ids[:, :-1], batch.mask[:, :-1].long()
    cast = torch.autocast(ids.device.type, autocast) if autocast else contextlib.nullcontext()
    with cast:
        hidden = decoder(
            input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=False
        ).last_hidden_state
    picked: Tensor = hidden[:, batch.start - 1 :][batch.actions]
    return picked.float()


def logprobs(
    model: Any,
    batch: Rollout,
    *,
    temperature: float,
    allowed: int,
    autocast: torch.dtype | None = None,
) -> Said:
    """Log-probability and entropy of every action at the rollout's temperature.

    Logits are made for the actions alone, so no tensor over prompt, padding and vocabulary exists;
    ids beyond the tokenizer have no share, as when generating.
    """
    said: Said = inside(model, _said, batch, temperature, allowed, autocast)
    return said


def _said(
    model: Any, batch: Rollout, temperature: float, allowed: int, autocast: torch.dtype | None
) -> Said:
    hidden = states(model.get_decoder(), batch, autocast)
    weight = model.get_output_embeddings().weight[:allowed]
    logits = torch.nn.functional.linear(hidden, weight.float()) / temperature
    everything = logits.log_softmax(-1)
    chosen = everything.gather(-1, batch.ids[:, batch.start :][batch.actions][:, None])[:, 0]
    with torch.no_grad():
        entropy = -(everything.exp() * everything).sum(-1)
    return Said(spread(chosen, batch.actions), spread(entropy, batch.actions), hidden)


def spread(values: Tensor, actions: Tensor) -> Tensor:
    """One value an action (N,) laid out as (B, R), 0 elsewhere; differentiable."""
    return torch.zeros(actions.shape, dtype=values.dtype, device=values.device).masked_scatter(
        actions, values
    )
