"""A reward model as a judge of replies, once it has passed its own examination."""

from __future__ import annotations

from collections.abc import Iterable

from evalsuite_train.gates import check_gate
from evalsuite_train.recipe import Recipe
from evalsuite_train.rm.model import RewardModel

BAR = 0.85
"""The pair accuracy that a reward model needs of every task it is to judge."""


def open_judge(recipe: Recipe, name: str, tasks: Iterable[str], bar: float = BAR) -> RewardModel:
    """The reward model of section or folder ``name``, allowed to judge these tasks.

    Raises:
        GateClosed: its pair accuracy on a task is unknown or below the bar.
    """
    folder = recipe.parent(name)
    check_gate(folder, bar, tasks, of="rm")
    return RewardModel.open(folder)
