"""The stage ``rm``: train a reward model on preference pairs and measure it against its bar."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evalsuite_train.checkpoint import load_tokenizer, read_card, write_checkpoint
from evalsuite_train.curves import shipped_log
from evalsuite_train.errors import BadData
from evalsuite_train.files import write_whole
from evalsuite_train.generation import derived_seed
from evalsuite_train.precision import DTYPES
from evalsuite_train.processes import join
from evalsuite_train.pt.stage import tokenizer_folder
from evalsuite_train.recipe import Recipe
from evalsuite_train.rm.accuracy import pair_accuracy, validation_pairs
from evalsuite_train.rm.card import model_card
from evalsuite_train.rm.config import Config
from evalsuite_train.rm.model import RewardModel, new_reward_model
from evalsuite_train.rm.on_policy import Judged, on_policy_pairs, sft_replies
from evalsuite_train.rm.pairs import Pair, PairStream, is_validation, read_pairs
from evalsuite_train.rm.training import train_reward
from evalsuite_train.sharding import plain, read_once, share_out
from evalsuite_train.state import remove_states

__all__ = ["Config", "run"]

CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role']=='user' %}{{ 'Human:' + m['content'] + '\\n\\nAssistant:' }}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
)
"""The template ``rm`` of :mod:`evalsuite_train.templates`, for those who read the checkpoint."""


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Train, measure and write the reward model; goes on from ``out/state.pt`` when cut off.

    Started by torchrun, the model and the pairs are shared out over its processes.

    Raises:
        BadData: no pairs, or too few for a validation split.
        BadRecipe: a tokenizer of its own whose pieces the parent does not know.
    """
    parent, own = recipe.parent(config.parent), _tokenizer_folder(config, recipe)
    labelled = read_pairs(recipe.file(config.data))
    if config.tasks:
        labelled = [pair for pair in labelled if pair.task in config.tasks]
    seed = derived_seed(recipe.seed, out.name)
    processes = join(config.device)
    out.mkdir(parents=True, exist_ok=True)
    judged = sft_replies(config, recipe, out, {pair.task for pair in labelled}, processes)

    def new() -> Any:
        return new_reward_model(parent, own, seed).model

    model = read_once(new, processes)
    model.set_attn_implementation(config.attention)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model = share_out(model, processes, DTYPES[config.precision])
    reward = RewardModel(model, load_tokenizer(own or parent), processes)
    pairs = on_policy_pairs(judged)
    training = _split(labelled, pairs, config, seed, held_out=False)
    held_out = validation_pairs(
        _split(labelled, pairs, config, seed, held_out=True), config.validation_pairs, seed
    )
    train_reward(reward, training, held_out, config, out)
    _round(reward)
    normalise(reward, judged, labelled)
    accuracy = pair_accuracy(reward, held_out)
    found = {"reward_offset": reward.offset, "reward_scale": reward.scale}
    reward.model = plain(reward.model, processes, new)
    reward.model.config.update(found)
    _write(reward, accuracy, config, recipe, out, parent, own)
    remove_states(out)


def _split(
    labelled: Sequence[Pair],
    on_policy: Sequence[Pair],
    config: Config,
    seed: int,
    *,
    held_out: bool,
) -> PairStream:
    def side(pairs: Sequence[Pair]) -> list[Pair]:
        return [p for p in pairs if is_validation(p.prompt, config.held_out) == held_out]

    stream = PairStream(side(labelled), side(on_policy), config.shares, seed)
    if not stream.labelled:
        raise BadData(
            f"no labelled pair for {'validation' if held_out else 'training'}",
            where=f"{config.data}: tasks {', '.join(config.tasks) or 'all'}",
            hint="give more pairs, or other tasks",
        )
    return stream


def _round(reward: RewardModel) -> None:
    """Round the weights to bf16, in which they are written: what is measured is what will be read.

    Parameters alone: ``model.to(bfloat16)`` would also spoil the frequencies of the rotary embedding.
    """
    with torch.no_grad():
        for weight in reward.model.parameters():
            weight.copy_(weight.bfloat16())


def normalise(reward: RewardModel, judged: Sequence[Judged], labelled: Sequence[Pair]) -> None:
    """Store mean and deviation of the raw scores of the SFT model's replies in the model's config.

    Without such replies (``on_policy_prompts: 0``) those of the labelled ones.
    """
    replies = [(reply.asked.prompt, reply.reply) for reply in judged[:2000]]
    if not replies:
        replies = [(p.prompt, text) for p in labelled[:1000] for text in (p.chosen, p.rejected)]
    raw = reward.raw_scores(replies)
    reward.offset = statistics.fmean(raw)
    reward.scale = max(statistics.pstdev(raw), 1e-6)
    reward.model.config.reward_offset = reward.offset
    reward.model.config.reward_scale = reward.scale


def _write(
    reward: RewardModel,
    accuracy: dict[str, Any],
    config: Config,
    recipe: Recipe,
    out: Path,
    parent: Path,
    own: Path | None,
) -> None:
    parent_name = str(read_card(parent).get("name", config.parent))
    gate = {"stage": "rm", "bar": config.bar, **accuracy}
    text = json.dumps(gate, ensure_ascii=False, indent=2) + "\n"
    write_checkpoint(
        out / "checkpoint",
        reward.model,
        tokenizer=own or parent,
        recipe=recipe,
        section=out.name,
        step=config.steps,
        parent=parent_name,
        template=None,
        files={
            "README.md": model_card(f"{recipe.name}-{out.name}", parent_name, config, gate),
            "gate.json": text,
            "chat_template.jinja": CHAT_TEMPLATE,
            "train_log.jsonl": shipped_log(out / "log.jsonl"),
        },
    )
    write_whole(out / "gate.json", text)


def _tokenizer_folder(config: Config, recipe: Recipe) -> Path | None:
    return None if config.tokenizer is None else tokenizer_folder(recipe, config.tokenizer)
