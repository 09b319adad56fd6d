"""What GRPO and RLOO share: prompts, the gates, and the reward, which is that of PPO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from evalsuite_train.alternatives.training import Settings, arguments
from evalsuite_train.errors import BadData, BadRecipe
from evalsuite_train.feedback.rows import Asked, read_prompts
from evalsuite_train.gates import check_gate
from evalsuite_train.ppo.reward import Judge
from evalsuite_train.recipe import Recipe
from evalsuite_train.rm.model import RewardModel
from evalsuite_train.templates import TEMPLATES, encode_prompt


class OnlineSettings(Settings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the methods that sample.

    Attributes:
        prompts: RL prompts; ``tasks`` leaves only these, empty is all.
        rm: the section or folder of the reward model; None leaves the rules alone.
        samples: replies to each prompt, compared with each other; divides ``batch``.
        kl: the coefficient of the divergence from the parent.
        rm_weight, rules_weight, rm_clip, missing_eos: of the reward, as in PPO.
        guards: the gates; ``sft_bar`` and ``rm_bar`` are what they ask of every task.
    """

    prompts: str = "data/prompts.jsonl"
    tasks: tuple[str, ...] = ()
    rm: str | None = None
    samples: int = 8
    max_new_tokens: int = 48
    temperature: float = 1.0
    kl: float = 0.03
    rm_weight: float = 1.0
    rules_weight: float = 1.0
    rm_clip: float = 3.0
    missing_eos: float = 1.0
    guards: bool = True
    sft_bar: float = 0.8
    rm_bar: float = 0.85

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2 or self.batch % self.samples:
            raise ValueError(f"samples is {self.samples}: at least 2, and a divisor of batch")
        if not (self.temperature > 0 and self.missing_eos > 0 and self.rm_clip > 0):
            raise ValueError("temperature, missing_eos and rm_clip must be above 0")


def read_asked(config: OnlineSettings, recipe: Recipe) -> list[Asked]:
    """The prompts of the wanted tasks, after the gates.

    Raises:
        GateClosed: the parent or the reward model has not reached its bar.
        BadData: no prompts, or one that nothing judges.
    """
    asked = read_prompts(recipe.file(config.prompts))
    asked = [a for a in asked if not config.tasks or a.task in config.tasks]
    unjudged = [a for a in asked if not a.rules] if config.rm is None else []
    if not asked or unjudged:
        what = (
            f"prompt {unjudged[0].id!r} has no rules" if unjudged else "no prompts of these tasks"
        )
        raise BadData(
            what, where=config.prompts, hint="check tasks, or name a reward model with rm"
        )
    if config.guards:
        tasks = {a.task for a in asked}
        what = "the parent's accuracy on its training split"
        check_gate(recipe.parent(config.parent), config.sft_bar, tasks, what=what)
        if config.rm:
            what = "the reward model's pair accuracy"
            check_gate(recipe.parent(config.rm), config.rm_bar, tasks, what=what)
    return asked


def prompt_rows(tokenizer: Any, asked: Sequence[Asked], template: str) -> Dataset:
    """Prompts as the text that trl tokenizes itself, each checked against training's own ids.

    Raises:
        BadRecipe: the template's ids cannot be had from a text.
    """
    form = TEMPLATES[template]
    rows = []
    for one in asked:
        before, _, after = form.human.partition("{}")
        text = before + one.prompt + after
        if tokenizer(text)["input_ids"] == encode_prompt(tokenizer, one.prompt, template):
            rows.append({"prompt": text, "id": one.id})
    # A prompt that spells out a control token is not asked; all of them is the template's fault.
    if not rows:
        raise BadRecipe(
            f"template {template!r} cannot be asked through trl",
            hint="use a template that is plain text, such as 'ziya', or the stage ppo",
        )
    return Dataset.from_list(rows)


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
        "mask_truncated_completions": False,  # they stay, and get the lowest reward
        "generation_kwargs": {"suppress_tokens": forbidden},
    }


class Reward:
    """The reward function that trl calls: PPO's judge, over the ids, which say what has an end."""

    def __init__(self, judge: Judge, asked: Sequence[Asked], tokenizer: Any) -> None:
        self.__name__ = "reward"
        self._judge, self._tokenizer = judge, tokenizer
        self._asked = {a.id: a for a in asked}

    def __call__(
        self, *, completion_ids: Sequence[Sequence[int]], id: Sequence[str], **_: Any
    ) -> list[float]:
        eos = self._tokenizer.eos_token_id
        finished = [bool(ids) and ids[-1] == eos for ids in completion_ids]
        texts = [
            str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()
            for ids in completion_ids
        ]
        worth = self._judge([self._asked[name] for name in id], texts, finished)
        return [one.total for one in worth]


def make_reward(
    config: OnlineSettings, recipe: Recipe, asked: Sequence[Asked], tokenizer: Any
) -> Reward:
    """The reward of a section."""
    rm = RewardModel.open(recipe.parent(config.rm)) if config.rm else None
    judge = Judge(
        rm,
        rm_weight=config.rm_weight,
        rules_weight=config.rules_weight,
        veto=True,
        rm_clip=config.rm_clip,
        penalty=config.missing_eos,
    )
    return Reward(judge, asked, tokenizer)
