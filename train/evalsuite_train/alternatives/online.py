"""What GRPO and RLOO share, which is all but a trainer: settings, gates, the run, and its stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalsuite_train.alternatives.prompts import check_rows, prompt_rows, training_prompts
from evalsuite_train.alternatives.reward import Reward
from evalsuite_train.alternatives.states import STATE
from evalsuite_train.alternatives.training import (
    Settings,
    arguments,
    claim,
    configurations,
    open_tokenizer,
    seed_of,
    train,
    write,
)
from evalsuite_train.alternatives.watch import Watch
from evalsuite_train.checkpoint import read_card
from evalsuite_train.feedback.rows import validation_prompts
from evalsuite_train.gates import check_gate
from evalsuite_train.generation import derived_seed
from evalsuite_train.model import load_model
from evalsuite_train.ppo.reward import Judge
from evalsuite_train.ppo.validation import Validation
from evalsuite_train.recipe import Recipe
from evalsuite_train.rm.model import RewardModel


class OnlineSettings(Settings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the methods that sample.

    Attributes:
        prompts, validation: RL prompts, and those on which gold and reward are compared.
        tasks: only these; empty is all.
        rm: the section or folder of the reward model; None leaves the rules alone.
        samples: replies to each prompt, compared with each other; divides ``batch``.
        kl: the coefficient of the divergence from the parent.
        clip_ratio: bound of the probability ratio when samples are learnt from more than once.
        passes: how often the samples are learnt from.
        rm_weight, rules_weight, rm_clip, missing_eos: of the reward, as in PPO.
        guards: the gates and the stop; without them nobody looks at ``validation``.
        sft_bar, rm_bar: accuracy the parent and the reward model need of every task.
        evaluate_every: steps between two looks at the validation prompts.
        validation_prompts: at most so many of each task.
        alpha: significance at which gold and reward have parted.
    """

    prompts: str = "data/prompts.jsonl"
    validation: str = "data/validation.jsonl"
    tasks: tuple[str, ...] = ()
    rm: str | None = None
    samples: int = 8
    max_new_tokens: int = 48
    temperature: float = 1.0
    kl: float = 0.03
    clip_ratio: float = 0.2
    passes: int = 1
    rm_weight: float = 1.0
    rules_weight: float = 1.0
    rm_clip: float = 3.0
    missing_eos: float = 1.0
    guards: bool = True
    sft_bar: float = 0.8
    rm_bar: float = 0.85
    evaluate_every: int = 25
    validation_prompts: int = 60
    alpha: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2 or self.batch % self.samples:
            raise ValueError(f"samples is {self.samples}: at least 2, and a divisor of batch")
        for name in ("evaluate_every", "validation_prompts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if not (self.temperature > 0 and self.missing_eos > 0 and self.rm_clip > 0):
            raise ValueError("temperature, missing_eos and rm_clip must be above 0")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}, it must be at least 1")


def run_online(
    config: OnlineSettings, recipe: Recipe, out: Path, make_trainer: Callable[..., Any]
) -> None:
    """Train on sampled replies; writes ``log.jsonl`` and the checkpoint.

    Args:
        make_trainer: trl's trainer from its ``arguments`` (:func:`online_arguments`) and parts.

    Raises:
        GateClosed: the parent or the reward model has not reached its bar.
        BadData: no prompts, or one that nothing judges; no validation prompt has rules.
        TrainError: what :func:`check_rows`, :func:`claim` and :func:`train` refuse.
    """
    file = recipe.file(config.prompts)
    asked = training_prompts(file, config.tasks, by_rm=config.rm is not None)
    tasks = {a.task for a in asked}
    if config.guards:
        _check_gates(config, recipe, tasks)
    parent = recipe.parent(config.parent)
    tokenizer, model = open_tokenizer(parent), load_model(parent)
    original = configurations(model)
    rows = prompt_rows(tokenizer, asked, config.template)
    check_rows(
        rows,
        asked,
        model,
        tokenizer,
        max_new_tokens=config.max_new_tokens,
        least=config.batch * config.accumulation // config.samples,
        where=str(file),
    )
    claim(config, recipe, out, rows)
    embedded = model.get_input_embeddings().num_embeddings
    judge = make_judge(config, recipe)
    watch = _watch(config, recipe, out, tasks, tokenizer, judge) if config.guards else None
    trainer = make_trainer(
        arguments=online_arguments(config, tokenizer, embedded, out, seed_of(recipe, out)),
        model=model,
        reward_funcs=Reward(judge, asked, tokenizer),
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[watch] if watch else None,
    )
    alarm = watch.alarm if watch else ""  # a process that was killed may have come this far
    step = 0 if alarm else train(trainer, out)
    if watch and watch.alarm:
        watch.restore(trainer.model)
        step, alarm = watch.step, watch.alarm
        print(f"{out.name}: stopped, {alarm}; the weights are those of step {step}", flush=True)
    card = model_card(config, recipe, out.name, step, alarm)
    files = {"README.md": card}
    write(trainer, model, original, config, recipe, out, step=step, alarm=alarm, files=files)


def _check_gates(config: OnlineSettings, recipe: Recipe, tasks: set[str]) -> None:
    check_gate(recipe.parent(config.parent), config.sft_bar, tasks, of="sft")
    if config.rm:
        check_gate(recipe.parent(config.rm), config.rm_bar, tasks, of="rm")


def online_arguments(
    config: OnlineSettings, tokenizer: Any, rows: int, out: Path, seed: int
) -> dict[str, Any]:
    """trl's arguments for sampling: embedding rows beyond the tokenizer, and padding, are never chosen.

    Args:
        rows: of the model's embedding.
    """
    forbidden = [tokenizer.pad_token_id, *range(len(tokenizer), rows)]
    return {
        **arguments(config, out, seed),
        "num_generations": config.samples,
        "max_completion_length": config.max_new_tokens,
        "temperature": config.temperature,
        "top_k": 0,
        "beta": config.kl,
        "epsilon": config.clip_ratio,
        "num_iterations": config.passes,
        "mask_truncated_completions": False,  # they stay, and get the lowest reward
        "generation_kwargs": {"suppress_tokens": forbidden},
    }


def make_judge(config: OnlineSettings, recipe: Recipe) -> Judge:
    """Who rewards the replies, in training and on the validation prompts."""
    rm = RewardModel.open(recipe.parent(config.rm)) if config.rm else None
    return Judge(
        rm,
        rm_weight=config.rm_weight,
        rules_weight=config.rules_weight,
        veto=True,
        rm_clip=config.rm_clip,
        penalty=config.missing_eos,
    )


def _watch(
    config: OnlineSettings, recipe: Recipe, out: Path, tasks: set[str], tokenizer: Any, judge: Judge
) -> Watch:
    file = recipe.file(config.validation)
    validation = Validation(
        validation_prompts(file, tasks, config.validation_prompts),
        tokenizer,
        judge,
        template=config.template,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        seed=derived_seed(recipe.seed, "ppo", "validation"),  # PPO's, so that looks compare
    )
    return Watch(validation, out / STATE, every=config.evaluate_every, alpha=config.alpha)


def model_card(config: OnlineSettings, recipe: Recipe, section: str, step: int, alarm: str) -> str:
    """The text of ``README.md``: what was trained, how far, and whether anybody watched."""
    parent = read_card(recipe.parent(config.parent)).get("name", config.parent)
    method = recipe.stage_of(section).upper()
    lines = [
        f"# {recipe.name}-{section}",
        f"Trained with {method} through trl from {parent}: {step} of {config.steps} steps.",
    ]
    if not config.guards:
        lines.append(
            "**The guards were off.** No gate was asked, and nobody watched for a gamed reward."
        )
    if alarm:
        lines.append(f"**Stopped early**: {alarm}. These are the last good weights.")
    return "\n\n".join(lines) + "\n"
