"""Group-relative policy optimisation (GRPO; Shao et al., arXiv 2402.03300) through trl.

The advantage of a reply is its reward against the mean of its prompt's other replies, in their
standard deviations; the divergence from the parent is part of the loss.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from evalsuite_train.alternatives.online import OnlineSettings, run_online
from evalsuite_train.recipe import Recipe

Config = OnlineSettings


def run(config: OnlineSettings, recipe: Recipe, out: Path) -> None:
    """Train on sampled replies; see :func:`evalsuite_train.alternatives.online.run_online`."""
    run_online(config, recipe, out, _trainer)


def _trainer(arguments: dict[str, Any], **parts: Any) -> GRPOTrainer:
    return GRPOTrainer(
        args=GRPOConfig(**arguments, loss_type="grpo", scale_rewards="group"), **parts
    )
