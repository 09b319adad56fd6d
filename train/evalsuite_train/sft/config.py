"""The settings of an SFT section."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from evalsuite_train.precision import settle
from evalsuite_train.sft.lora import Adapter
from evalsuite_train.trainer import Optimisation


class Config(Optimisation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An SFT section.

    Attributes:
        parent: the checkpoint to start from: a section or a folder.
        data: a file in any format that :mod:`evalsuite_train.data` reads.
        template: a name in :data:`evalsuite_train.templates.TEMPLATES`.
        max_length: tokens of a conversation; longer ones lose their last turns, or are dropped.
        bad_share: share of malformed rows above which the file is refused.
        batch: conversations of a micro-batch.
        steps: optimiser steps, all stages together; or instead:
        epochs: how often every stage goes through its samples.
        weights: task → how often its samples come, 1 as they stand in the data.
        stages: parts from easy to hard; 1 learns everything at once.
        replay: share of a later stage's samples that come from earlier ones.
        method: ``full`` changes all weights, ``lora`` an ``adapter`` beside them.
        merged: with ``lora``, also write the adapter merged into its base as a whole checkpoint.
        written: the numbers in the written weights.
        validation: held-out questions with rules, asked after every stage; None asks none.
        training: questions of the training split, for the gate; None asks none.
        questions: how many of each task are asked.
        max_new_tokens: of a reply to them.
        forgetting: accuracy that a stage may lose of a task against the best stage before it.
    """

    parent: str = "pt"
    data: str = "data/sft.jsonl"
    template: str = "ziya"
    max_length: int = 512
    bad_share: float = 0.1
    batch: int = 96
    steps: int = 0
    epochs: float | None = None
    weights: dict[str, float] = msgspec.field(default_factory=dict)
    stages: int = 1
    replay: float = 0.25
    method: Literal["full", "lora"] = "full"
    adapter: Adapter = Adapter()
    merged: bool = True
    written: Literal["bf16", "fp16", "fp32"] = "bf16"
    validation: str | None = "data/validation.jsonl"
    training: str | None = "data/prompts.jsonl"
    questions: int = 50
    max_new_tokens: int = 64
    forgetting: float | None = None

    def __post_init__(self) -> None:
        settle(self)
        if (self.steps == 0) == (self.epochs is None):
            raise ValueError("give steps or epochs, one of them")
        for name in ("batch", "stages", "max_length", "questions", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if not 0 <= self.replay < 1:
            raise ValueError(f"replay is {self.replay}, it must be at least 0 and below 1")
        if self.epochs is not None and not 0 < self.epochs < math.inf:
            raise ValueError(f"epochs is {self.epochs}, it must be a number above 0")
        if not 0 <= self.bad_share <= 1 or math.isnan(self.forgetting or 0):
            raise ValueError("bad_share is from 0 to 1, forgetting a number")
        self.optimisation(self.steps or 1)

    def optimisation(self, steps: int) -> Optimisation:
        """The settings that the training loop knows, for so many steps; checks them."""
        shared = {name: getattr(self, name) for name in Optimisation.__struct_fields__}
        return Optimisation(**{**shared, "steps": steps})
