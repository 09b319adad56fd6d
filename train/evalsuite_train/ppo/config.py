"""The settings of a PPO section."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from evalsuite_train.precision import settle


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How PPO is run; the defaults are the tiny ladder's.

    Attributes:
        parent: the SFT checkpoint: where the policy starts, and the frozen reference.
        rm: the section or folder of the reward model; None leaves the rules alone.
        rm_tasks: where the reward model judges beside the rules; empty is everywhere.
        prompts, validation: RL prompts, and those on which gold and reward are compared.
        tasks: only these; empty is all.
        template: the parent's prompt template.
        iterations, prompts_per_iteration: as many samples in all as their product.
        max_new_tokens, temperature: of the rollouts; log-probabilities are at this temperature.
        epochs, minibatches: passes over an iteration's samples, and updates in each.
        learning_rate, anneal: Adam's, falling linearly to 0 over the iterations.
        value: where the value function sits: ``shared`` a head on the policy's own states,
            ``policy`` a model of its own that starts as the parent, ``rm`` one that starts as the
            reward model (which must have the parent's vocabulary).
        value_learning_rate: of a separate value model or head; None is ``learning_rate``.
        value_weight: of the value loss beside the policy's.
        kl: the fixed coefficient of the per-token penalty against the reference.
        gamma, lambda_: of the generalised advantages.
        clip, value_clip: of the ratio, and of the value around its old one.
        whiten_rewards: also whiten the token rewards, without moving their mean.
        gradient_clip: the largest gradient norm that is applied as it is.
        rm_weight, rules_weight, rm_clip: the reward is ``rm_weight`` times the normalised score,
            clipped to ± ``rm_clip``, plus ``rules_weight`` times the rules' score in [0, 1].
        veto: whether a reply that breaks a vetoing rule lies below every other.
        missing_eos: how far a truncated (or vetoed) reply lies below the lowest other.
        retain: SFT conversations; those of other tasks than ``tasks`` are learnt beside the reward, so
            that they are not unlearnt. None learns from reward alone.
        retain_weight, retain_batch: of their loss a reply token beside the policy's, and how many an
            update.
        max_length: tokens of such a conversation at most.
        guards: the gates and the stop; off for a run that is meant to game its reward.
        sft_bar, rm_bar: accuracy the parent and the reward model need of every task.
        evaluate_every: iterations between two looks at the validation prompts.
        validation_prompts: at most so many of each task.
        alpha: significance at which gold and reward have parted.
        save_every: iterations between two saved states.
        precision: of the backbone's matrix products when learning; weights, heads and rollouts are
            float32. ``auto`` is bf16 where the device multiplies it fast, else fp32. Shared out over
            several processes, rollouts and frozen models are in it too.
        attention: of the models; ``eager`` trains short rows faster on a CPU than ``sdpa``.
        device: ``auto`` is CUDA where there is one, else the CPU.
        gradient_checkpointing: recompute activations, also of a value model of its own, to save memory.
    """

    parent: str = "sft"
    rm: str | None = "rm"
    rm_tasks: tuple[str, ...] = ()
    prompts: str = "data/prompts.jsonl"
    validation: str = "data/validation.jsonl"
    tasks: tuple[str, ...] = ()
    template: str = "ziya"
    iterations: int = 60
    prompts_per_iteration: int = 128
    max_new_tokens: int = 48
    temperature: float = 1.0
    epochs: int = 2
    minibatches: int = 4
    learning_rate: float = 1e-4
    anneal: bool = True
    value: Literal["shared", "policy", "rm"] = "shared"
    value_learning_rate: float | None = 1e-3
    value_weight: float = 0.1
    kl: float = 0.03
    gamma: float = 1.0
    lambda_: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.2
    whiten_rewards: bool = False
    gradient_clip: float = 1.0
    rm_weight: float = 1.0
    rules_weight: float = 1.0
    rm_clip: float = 3.0
    veto: bool = True
    missing_eos: float = 1.0
    retain: str | None = None
    retain_weight: float = 1.0
    retain_batch: int = 32
    max_length: int = 256
    guards: bool = True
    sft_bar: float = 0.8
    rm_bar: float = 0.85
    evaluate_every: int = 10
    validation_prompts: int = 60
    alpha: float = 0.01
    save_every: int = 5
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    attention: Literal["sdpa", "eager"] = "sdpa"
    device: str = "auto"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        settle(self)
        for name in (
            "iterations",
            "prompts_per_iteration",
            "max_new_tokens",
            "epochs",
            "minibatches",
            "evaluate_every",
            "validation_prompts",
            "save_every",
            "retain_batch",
            "max_length",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        for name in (
            "temperature",
            "clip",
            "value_clip",
            "missing_eos",
            "rm_clip",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be above 0")
        for name in ("learning_rate", "value_learning_rate"):
            if (rate := getattr(self, name)) is not None and not 0 < rate < math.inf:
                raise ValueError(f"{name} is {rate}, it must be a number above 0")
        for name in ("kl", "rm_weight", "rules_weight", "value_weight", "retain_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, it must not be negative")
        if self.minibatches > self.prompts_per_iteration:
            raise ValueError(
                f"{self.minibatches} minibatches of {self.prompts_per_iteration} prompts"
            )
        if self.value == "rm" and self.rm is None:
            raise ValueError("value is 'rm', but no rm is named")
