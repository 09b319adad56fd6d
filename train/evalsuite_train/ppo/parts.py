"""What a PPO run is put together from: prompts, gates, the judge, the learner, the validation prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.errors import BadData, BadRecipe
from evalsuite_train.feedback.rows import Asked, read_prompts, validation_prompts
from evalsuite_train.gates import check_gate
from evalsuite_train.generation import derived_seed
from evalsuite_train.model import load_model
from evalsuite_train.ppo.config import Config
from evalsuite_train.ppo.learner import Learner
from evalsuite_train.ppo.retained import Retained
from evalsuite_train.ppo.reward import Judge
from evalsuite_train.ppo.validation import Validation
from evalsuite_train.processes import Processes
from evalsuite_train.recipe import Recipe
from evalsuite_train.rm.model import RewardModel
from evalsuite_train.sharding import read_once, share_out


class Parts(NamedTuple):
    """Everything that does not change during a run, and the learner."""

    parent: Path
    tokenizer: Any
    asked: list[Asked]
    judge: Judge
    learner: Learner
    validation: Validation


def assemble(config: Config, recipe: Recipe, processes: Processes, *, where: str) -> Parts:
    """Read everything, and check the gates before anything is loaded.

    Raises:
        GateClosed: the parent or the reward model has not reached its bar.
        BadData: no prompts of these tasks, or one that nothing judges.
        BadRecipe: the value function is to start from a reward model of another vocabulary.
    """
    parent = recipe.parent(config.parent)
    rm_folder = recipe.parent(config.rm) if config.rm else None
    asked = _prompts(recipe.file(config.prompts), config)
    if config.guards:
        _check_gates(config, parent, rm_folder, {a.task for a in asked})
    tokenizer = load_tokenizer(parent)
    rm = RewardModel.open(rm_folder, processes) if rm_folder else None
    judge = Judge(
        rm,
        rm_weight=config.rm_weight,
        rules_weight=config.rules_weight,
        veto=config.veto,
        rm_clip=config.rm_clip,
        penalty=config.missing_eos,
        rm_tasks=frozenset(config.rm_tasks) or None,
    )
    validation = Validation(
        validation_prompts(
            recipe.file(config.validation), {a.task for a in asked}, config.validation_prompts
        ),
        tokenizer,
        judge,
        template=config.template,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        seed=derived_seed(recipe.seed, "ppo", "validation"),  # the same for every PPO section
        processes=processes,
    )
    policy = read_once(lambda: load_model(parent), processes)
    policy.set_attn_implementation(config.attention)
    backbone = _backbone(config, policy, tokenizer, rm, where)
    retained = None
    if config.retain is not None:
        retained = Retained.read(
            recipe.file(config.retain),
            tokenizer,
            config.template,
            trained={a.task for a in asked},
            max_length=config.max_length,
            batch=config.retain_batch,
            seed=derived_seed(recipe.seed, "ppo", "retained"),
            processes=processes,
        )
    learner = Learner(policy, backbone, config, len(tokenizer), processes, retained)
    if rm is not None:
        precision = learner.autocast or torch.float32
        rm.model = share_out(rm.model, processes, precision, frozen=True)
    return Parts(parent, tokenizer, asked, judge, learner, validation)


def _prompts(file: Path, config: Config) -> list[Asked]:
    asked = [a for a in read_prompts(file) if not config.tasks or a.task in config.tasks]
    missing = set(config.tasks) - {a.task for a in asked}
    if missing or not asked:
        raise BadData(f"no prompt of {', '.join(sorted(missing)) or 'any task'}", where=str(file))
    for prompt in asked:
        by_rm = config.rm and (not config.rm_tasks or prompt.task in config.rm_tasks)
        if not prompt.rules and not by_rm:
            raise BadData(
                f"prompt {prompt.id!r} has no rules, and no reward model judges its task",
                where=str(file),
                hint="name a reward model with `rm`, or leave the task out with `tasks`",
            )
    return asked


def _check_gates(config: Config, parent: Path, rm: Path | None, tasks: set[str]) -> None:
    check_gate(parent, config.sft_bar, tasks, of="sft")
    if rm:
        judged = tasks & set(config.rm_tasks) if config.rm_tasks else tasks
        check_gate(rm, config.rm_bar, judged, of="rm")


def _backbone(
    config: Config, policy: Any, tokenizer: Any, rm: RewardModel | None, where: str
) -> Any | None:
    """What the value function starts from; None puts its head on the policy."""
    if config.value == "shared":
        return None
    if config.value == "policy" or rm is None:
        return policy.get_decoder()
    if rm.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise BadRecipe(
            "the reward model has another vocabulary than the policy",
            where=where,
            hint="set value: policy",
        )
    return rm.model.model
