"""The settings of a reward model's section."""

from __future__ import annotations

import msgspec

from evalsuite_train.optimiser import Optimisation
from evalsuite_train.rm.pairs import Shares


class Config(Optimisation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the reward model is trained; the optimiser's settings are those of every stage.

    Attributes:
        parent: the SFT checkpoint: its backbone to start from, its replies to judge.
        tokenizer: a section or folder with the reward model's own tokenizer, such as the one before
            the vocabulary was extended; None is the parent's.
        data: preference pairs, labelled.
        prompts: prompts with rules, for pairs of the parent's own replies.
        tasks: only these; empty is all in ``data``.
        batch: pairs a step.
        shares: of the kinds of pairs.
        on_policy_prompts, on_policy_samples: how many prompts, and replies to each.
        template: the parent's prompt template; the reward model has its own, ``rm``.
        max_new_tokens: of the parent's replies.
        held_out: share of the prompts kept for validation.
        validation_pairs: most validation pairs of each task and kind.
        bar: the pair accuracy each task needs before it may reward.
    """

    steps: int = 600
    learning_rate: float = 5e-4
    warmup: int = 30
    betas: tuple[float, float] = (0.9, 0.95)
    save_every: int = 100
    parent: str = "sft"
    tokenizer: str | None = None
    data: str = "data/preferences.jsonl"
    prompts: str = "data/prompts.jsonl"
    tasks: tuple[str, ...] = ()
    batch: int = 32
    shares: Shares = Shares()
    on_policy_prompts: int = 1200
    on_policy_samples: int = 4
    template: str = "ziya"
    max_new_tokens: int = 48
    held_out: float = 0.1
    validation_pairs: int = 60
    bar: float = 0.85

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.zero is not None:
            raise ValueError("zero: leave it out; started by torchrun, this stage is shared out")
        for name in ("batch", "on_policy_samples", "max_new_tokens", "validation_pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}, it must be between 0 and 1")
        shares = msgspec.structs.astuple(self.shares)
        if min(shares) < 0 or sum(shares) <= 0:
            raise ValueError("shares must not be negative, and one of them above 0")
        if self.precision == "fp16":
            raise ValueError("precision is 'fp16'; a reward model is trained in bf16 or fp32")
