"""Pairs from the SFT model's own replies: sampled, judged by the prompts' rules, good against bad."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.feedback.candidates import Candidate, Sampling, sample
from evalsuite_train.feedback.rows import Asked, read_prompts
from evalsuite_train.generation import derived_seed
from evalsuite_train.model import load_model
from evalsuite_train.precision import DTYPES
from evalsuite_train.processes import ALONE, Processes
from evalsuite_train.recipe import Recipe
from evalsuite_train.rm.config import Config
from evalsuite_train.rm.pairs import Pair
from evalsuite_train.rules import score
from evalsuite_train.sft.parent import weights_digest
from evalsuite_train.sharding import read_once, share_out

JOURNAL = "on_policy.jsonl"


class Judged(msgspec.Struct, frozen=True):
    """A finished reply of the SFT model, and what the rules say: in [0, 1], a veto below."""

    asked: Asked
    reply: str
    reward: float


def sft_replies(
    config: Config,
    recipe: Recipe,
    out: Path,
    tasks: set[str],
    processes: Processes = ALONE,
) -> list[Judged]:
    """Replies of the parent to some prompts of these tasks, at temperature 1.

    They are kept in ``out/on_policy.jsonl`` and sampled once. Those cut off or empty are left out:
    PPO never asks the reward model about such.
    """
    if not config.shares.on_policy or not config.on_policy_prompts:
        return []
    prompts = [p for p in read_prompts(recipe.file(config.prompts)) if p.task in tasks and p.rules]
    chosen = spread(prompts, config.on_policy_prompts)
    parent = recipe.parent(config.parent)
    sampling = Sampling(
        template=config.template,
        samples=config.on_policy_samples,
        max_new_tokens=config.max_new_tokens,
        temperature=1.0,
        top_p=1.0,
    )
    model = read_once(lambda: load_model(parent), processes)
    replies = sample(
        chosen,
        share_out(model, processes, DTYPES[config.precision], frozen=True),
        load_tokenizer(parent),
        sampling,
        out / JOURNAL,
        seed=derived_seed(recipe.seed, out.name, "on_policy"),
        identity=weights_digest(parent),
        processes=processes,
    )
    return judge(replies, {asked.id: asked for asked in chosen})


def judge(replies: Sequence[Candidate], asked: dict[str, Asked]) -> list[Judged]:
    """What the rules say of every finished reply."""
    return [
        Judged(asked[c.id], c.reply, score(c.reply, asked[c.id].rules).reward)
        for c in replies
        if c.finished and c.reply
    ]


def spread(prompts: Sequence[Asked], count: int) -> list[Asked]:
    """The first prompts of each task, ``count`` in all, no text twice."""
    by_task: dict[str, list[Asked]] = {}
    for prompt in {p.prompt: p for p in prompts}.values():
        by_task.setdefault(prompt.task, []).append(prompt)
    each = -(-count // max(1, len(by_task)))
    return [prompt for rows in by_task.values() for prompt in rows[:each]][:count]


def on_policy_pairs(judged: Sequence[Judged]) -> list[Pair]:
    """The best reply to each prompt against every worse one.

    Where no reply satisfies every rule, the prompt's reference, if it has one, is the best.
    """
    by_prompt: dict[str, list[Judged]] = {}
    for reply in judged:
        by_prompt.setdefault(reply.asked.id, []).append(reply)
    pairs = []
    for replies in by_prompt.values():
        best, asked = max(replies, key=lambda reply: reply.reward), replies[0].asked
        chosen, bar = best.reply, best.reward
        if bar < 1 and asked.reference.strip():
            chosen, bar = asked.reference.strip(), 1.0
        worse = {reply.reply for reply in replies if reply.reward < bar} - {chosen}
        pairs += [Pair(asked.task, asked.prompt, chosen, bad, "on_policy") for bad in sorted(worse)]
    return pairs
