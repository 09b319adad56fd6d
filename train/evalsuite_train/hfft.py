"""Human-feedback fine-tuning (HFFT): the best of the model's own replies, kept and learnt from.

For each prompt ``samples`` replies are drawn from the parent, judged by the prompt's rules, by the
reward model, or by both; the best above a bar are kept, never a truncated or vetoed one. The model
is then fine-tuned on what was kept, mixed with a share of SFT data so that it does not forget. This
is also known as rejection-sampling fine-tuning (RAFT; Dong et al., arXiv 2304.06767).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

from evalsuite_train.checkpoint import load_tokenizer, read_card, write_checkpoint
from evalsuite_train.errors import BadData, TrainError
from evalsuite_train.experience import POOL, ExperiencePool
from evalsuite_train.feedback.batches import Source, batches, content
from evalsuite_train.feedback.candidates import (
    Candidate,
    Sampling,
    best,
    check_sampling,
    judge,
    sample,
)
from evalsuite_train.feedback.reward import open_judge
from evalsuite_train.feedback.rows import Asked, read_prompts, write_jsonl
from evalsuite_train.feedback_card import feedback_files
from evalsuite_train.files import write_whole
from evalsuite_train.optimiser import Optimisation
from evalsuite_train.processes import device_of, launched
from evalsuite_train.recipe import Recipe
from evalsuite_train.sft.parent import load_parent, weights_digest
from evalsuite_train.sft.samples import read_samples
from evalsuite_train.state import remove_states
from evalsuite_train.templates import TEMPLATES
from evalsuite_train.trainer import train

KEPT = "kept.jsonl"


class Config(Optimisation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of HFFT, besides those of the optimisation.

    Attributes:
        parent: the section or folder of the SFT checkpoint that is sampled and trained on.
        prompts: RL prompts with their rules; ``asked`` of them are used, from the top.
        pool: a section of stage ppo, or its experience pool, to judge instead of sampling anew.
        data: SFT conversations for replay; ``replay`` is their share of the samples.
        reward: who judges; with ``both`` the rules come first and the reward model breaks ties.
        rm: the section or folder of the reward model, if it judges.
        bar: the least value to be kept: of the rules' score, or of the reward model's alone.
        keep: replies kept a prompt, at most.
        batch: samples in a micro-batch.
    """

    parent: str = "sft"
    prompts: str = "data/prompts.jsonl"
    asked: int = 4000
    pool: str | None = None
    data: str = "data/sft.jsonl"
    replay: float = 0.5
    reward: Literal["rules", "rm", "both"] = "rules"
    rm: str | None = None
    template: str = "ziya"
    samples: int = 8
    keep: int = 1
    bar: float = 1.0
    max_new_tokens: int = 48
    temperature: float = 1.0
    top_p: float = 1.0
    max_length: int = 256
    batch: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.replay < 1:
            raise ValueError(f"replay is {self.replay}, it must be from 0 to below 1")
        if self.samples < 1 or self.keep < 1:
            raise ValueError("samples and keep must be at least 1")
        if not self.temperature > 0:
            raise ValueError("temperature is 0, so all samples of a prompt would be the same")
        if self.reward != "rules" and self.rm is None:
            raise ValueError(f"reward is {self.reward!r}, but no rm is named")
        check_sampling(self)
        if self.batch < 1 or math.isnan(self.bar):
            raise ValueError("batch must be at least 1, bar a number")


WHAT = (
    "Human-feedback fine-tuning (HFFT): of several sampled replies to a prompt the best is learnt."
)


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Sample, keep the best, fine-tune; writes ``kept.jsonl``, ``ledger.json`` and the checkpoint."""
    parent = recipe.parent(config.parent)
    several = launched() > 1
    if several and not (out / KEPT).is_file():
        raise TrainError(
            "replies are sampled by one process",
            where=out.name,
            hint="run this section once without torchrun until it trains, then launch it on all devices",
        )
    tokenizer = load_tokenizer(parent)
    model = load_parent(parent, len(tokenizer), config.max_length).to(device_of(config.device))
    if not several:
        _keep_best(config, recipe, out, model, tokenizer, weights_digest(parent))
    own, _ = read_samples(out / KEPT, tokenizer, config.template, max_length=config.max_length)
    sources = [Source(own, 1 - config.replay)]
    if config.replay > 0:
        file = recipe.file(config.data)
        old, _ = read_samples(file, tokenizer, config.template, max_length=config.max_length)
        sources.append(Source(old, config.replay))
    stream = batches(sources, config.batch, recipe.seed)
    steps = train(model, stream, config, out, seed=recipe.seed, data=content(sources))
    write_checkpoint(
        out / "checkpoint",
        model,
        tokenizer=parent,
        recipe=recipe,
        section=out.name,
        step=steps,
        parent=read_card(parent).get("name"),
        template=TEMPLATES[config.template].chat_template,
        files=feedback_files(
            f"{recipe.name}-{out.name}",
            WHAT,
            str(read_card(parent).get("name", config.parent)),
            json.loads((out / "ledger.json").read_text(encoding="utf-8")),
            out,
            steps=steps,
            rate=config.learning_rate,
        ),
    )
    remove_states(out)


def _keep_best(
    config: Config, recipe: Recipe, out: Path, model: Any, tokenizer: Any, identity: str
) -> None:
    asked = read_prompts(recipe.file(config.prompts))[: config.asked]
    if config.pool is not None:
        found = _from_pool(recipe, config.pool, asked)
    else:
        found = _sampled(config, recipe, out, asked, model, tokenizer, identity)
    scores = None
    if config.reward != "rules":
        scores = open_judge(recipe, str(config.rm), (a.task for a in asked)).scores
    judged = judge(found, asked, scores, rules=config.reward != "rm")
    kept, ledger = best(judged, bar=config.bar, keep=config.keep)
    write_jsonl(out / KEPT, [{"task": c.task, "conversations": _turns(c)} for c in kept])
    write_whole(out / "ledger.json", json.dumps(ledger, indent=2, ensure_ascii=False) + "\n")
    if not kept:
        raise BadData(
            f"none of {ledger['sampled']} candidates was kept: {ledger['dropped']}",
            where=str(out / "ledger.json"),
            hint="lower the bar, raise max_new_tokens, or train the parent longer",
        )


def _sampled(
    config: Config,
    recipe: Recipe,
    out: Path,
    asked: list[Asked],
    model: Any,
    tokenizer: Any,
    identity: str,
) -> list[Candidate]:
    sampling = Sampling(
        template=config.template,
        samples=config.samples,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
    )
    journal = out / "state-candidates.jsonl"
    return sample(asked, model, tokenizer, sampling, journal, seed=recipe.seed, identity=identity)


def _from_pool(recipe: Recipe, name: str, asked: list[Asked]) -> list[Candidate]:
    """The replies that PPO sampled to these prompts, in section ``name`` or in a file."""
    file = recipe.folder(name) / POOL if name in recipe.sections else recipe.file(name)
    by_id = {a.id: a for a in asked}
    found = [
        Candidate(e.prompt_id, e.task, by_id[e.prompt_id].prompt, e.reply, e.finished)
        for e in ExperiencePool(file)
        if e.prompt_id in by_id
    ]
    if not found:
        hint = "name a section of stage ppo that has run, and the prompts that it was run with"
        raise BadData("no experience with these prompts", where=str(file), hint=hint)
    return found


def _turns(candidate: Candidate) -> list[dict[str, str]]:
    return [
        {"from": "human", "value": candidate.prompt},
        {"from": "assistant", "value": candidate.reply},
    ]
