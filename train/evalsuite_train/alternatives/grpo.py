"""Group-relative policy optimisation (GRPO; Shao et al., arXiv 2402.03300) through trl.

The advantage of a reply is its reward against the mean of its prompt's other replies, in their
standard deviations; the divergence from the parent is part of the loss.
"""

from __future__ import annotations

from pathlib import Path

from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from evalsuite_train.alternatives.online import (
    OnlineSettings,
    make_reward,
    online_arguments,
    prompt_rows,
    read_asked,
)
from evalsuite_train.alternatives.training import (
    configurations,
    open_tokenizer,
    run_trainer,
    seed_of,
)
from evalsuite_train.model import load_model
from evalsuite_train.recipe import Recipe


class Config(OnlineSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of GRPO.

    Attributes:
        clip_ratio: bound of the probability ratio when samples are learnt from more than once.
        passes: how often the samples are learnt from.
    """

    clip_ratio: float = 0.2
    passes: int = 1


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Train on sampled replies; writes ``log.jsonl`` and the checkpoint."""
    asked = read_asked(config, recipe)
    parent = recipe.parent(config.parent)
    tokenizer, model = open_tokenizer(parent), load_model(parent)
    original = configurations(model)
    rows = model.get_input_embeddings().num_embeddings
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=make_reward(config, recipe, asked, tokenizer),
        args=GRPOConfig(
            **online_arguments(config, tokenizer, rows, out, seed_of(recipe, out)),
            loss_type="grpo",
            scale_rewards="group",
            epsilon=config.clip_ratio,
            num_iterations=config.passes,
        ),
        train_dataset=prompt_rows(tokenizer, asked, config.template),
        processing_class=tokenizer,
    )
    run_trainer(trainer, model, original, config, recipe, out)
