"""The value model: a backbone and a zero-initialised head."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite_train.ppo.rollout import Rollout, states


class ValueHead(nn.Module):
    """One number a token from the hidden states (…, hidden) → (…); zero everywhere at the start.

    With V = 0 the first advantages are the returns themselves: no random value misleads the policy.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Values of the states, float32."""
        return self.linear(hidden.float())[..., 0]  # type: ignore[no-any-return]


class ValueModel(nn.Module):
    """A backbone of its own, copied, with a value head.

    Args:
        backbone: the decoder to start from: the policy's, or the reward model's where it has the
            policy's vocabulary.
    """

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.head = ValueHead(int(backbone.config.hidden_size))
        disable_dropout(self)

    def forward(self, batch: Rollout, autocast: torch.dtype | None) -> Tensor:
        """Values (N,) of the states from which the batch's N actions are chosen, float32."""
        return self.head(states(self.backbone, batch, autocast))  # type: ignore[no-any-return]


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout to 0: with it, new and old log-probabilities differ by chance alone."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]
    config = getattr(model, "config", None)
    if config is not None and isinstance(getattr(config, "attention_dropout", None), float):
        config.attention_dropout = 0.0
