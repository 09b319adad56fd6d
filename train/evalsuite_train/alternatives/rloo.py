"""REINFORCE with a leave-one-out baseline (RLOO; Ahmadian et al., arXiv 2402.14740) through trl.

The advantage of a reply is its reward minus the mean of the prompt's other replies; the divergence
from the parent is part of the reward.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer

from evalsuite_train.alternatives.online import OnlineSettings, run_online
from evalsuite_train.recipe import Recipe

Config = OnlineSettings


def run(config: OnlineSettings, recipe: Recipe, out: Path) -> None:
    """Train on sampled replies; see :func:`evalsuite_train.alternatives.online.run_online`."""
    run_online(config, recipe, out, _trainer)


def _trainer(arguments: dict[str, Any], **parts: Any) -> RLOOTrainer:
    return RLOOTrainer(args=RLOOConfig(**arguments, normalize_advantages=False), **parts)
