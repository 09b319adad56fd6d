"""How a model is optimised: the settings every stage shares, and AdamW made from them."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import torch

from evalsuite_train.precision import Precision, settle


class Optimisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one training run; a stage's ``Config`` inherits them.

    Attributes:
        steps: optimiser steps.
        learning_rate: the peak, reached after ``warmup`` steps.
        schedule: the way down after the warm-up, to ``minimum_rate`` times the peak.
        weight_decay: AdamW's, on matrices only.
        clip: the largest gradient norm that is applied as it is.
        accumulation: micro-batches a step; the loss is the mean over all their learnt tokens.
        precision: of the matrix products; the master weights are float32. ``auto`` is bf16 where the
            device multiplies it fast, else fp32.
        save_every: steps between two states on the disk; a spike rolls back to the last of them.
        log_every: steps between two rows of ``log.jsonl``.
        spike_threshold: robust standard deviations above the recent median that count as a spike;
            0 looks for NaN and infinity only.
        device: ``auto`` is CUDA where there is one, else the CPU.
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        peak_tflops: what the device can do, for the MFU; measured where it is not given.
        attention: of the model; ``eager`` trains short rows faster on a CPU than ``sdpa``.
        zero: a DeepSpeed configuration (``zero2.json``, ``zero3.json`` or a path) for several
            processes.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    minimum_rate: float = 0.05
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-8
    clip: float = 1.0
    accumulation: int = 1
    precision: Precision = "auto"
    save_every: int = 500
    log_every: int = 20
    spike_threshold: float = 10.0
    device: str = "auto"
    gradient_checkpointing: bool = False
    peak_tflops: float | None = None
    attention: Literal["sdpa", "eager"] = "sdpa"
    zero: str | None = None

    def __post_init__(self) -> None:
        settle(self)
        for name in ("steps", "accumulation", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if not self.clip > 0:
            raise ValueError(f"clip is {self.clip}, it must be above 0")
        for name in ("learning_rate", "peak_tflops"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}, it must be a number above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas are at least 0 and below 1")
        if not (self.weight_decay >= 0 and self.epsilon > 0):
            raise ValueError("weight_decay is at least 0, epsilon above 0")
        if self.warmup < 0 or not 0 <= self.minimum_rate <= 1:
            raise ValueError("warmup must be at least 0 and minimum_rate between 0 and 1")


def adamw(model: torch.nn.Module, optimisation: Optimisation) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) on the parameters that learn; norms and biases do not decay."""
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.dim() > 1], "weight_decay": optimisation.weight_decay},
        {"params": [p for p in learning if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=optimisation.learning_rate,
        betas=optimisation.betas,
        eps=optimisation.epsilon,
        fused=True,
    )
