"""Pitfalls of the published systems' own code that belong to no single stage of a training."""

from __future__ import annotations

import importlib.util

import pytest

from evalsuite.metrics.choice import extract_letter
from evalsuite.plan import open_data
from evalsuite.registry import load_task
from evalsuite.request import Generated

UNPARSED = ["", "不知道", "I would rather not say.", "都不对", "甲", "The answer is E.", "？？？"]


@pytest.mark.parametrize("text", UNPARSED)
def test_pitfall_random_letter_when_nothing_was_parsed(text: str) -> None:
    """An answer without a letter is no answer, every time: never a letter drawn at random."""
    assert {extract_letter(text, "ABCD") for _ in range(20)} == {None}
    task = load_task("ladder_knowledge")
    for sample in list(task.samples(open_data(task, None)))[:8]:
        outcome = task.score(sample, Generated(text))
        assert outcome.scores == {"accuracy": 0.0}
        assert outcome.answer is None


def test_pitfall_trl_has_no_ppo_of_its_own() -> None:
    """Why train/ has one: trl keeps the trainers that we use and no PPOTrainer among them."""
    trl = pytest.importorskip("trl", reason="trl is not installed")
    kept = ("RLOOTrainer", "GRPOTrainer", "DPOTrainer", "RewardTrainer", "SFTTrainer")
    assert all(name in trl.__all__ or hasattr(trl, name) for name in kept)
    assert not hasattr(trl, "PPOTrainer")
    assert importlib.util.find_spec("evalsuite_train.ppo") is not None
