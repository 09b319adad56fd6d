"""AI feedback: preference pairs from a model's own replies, labelled by a judge model or by the RM.

Each prompt gets several replies; two finished and different ones make a contest. A judge behind an
OpenAI-compatible endpoint reads it in both orders, and only where it prefers the same reply twice
does a pair go into ``preferences.jsonl``. The reward model needs one look and a least difference of
scores. ``ledger.json`` says what became of every prompt.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.errors import BadData, TrainError, shown
from evalsuite_train.feedback.candidates import Candidate, Sampling, check_sampling, sample
from evalsuite_train.feedback.endpoint import Endpoint
from evalsuite_train.feedback.judge import PRINCIPLES, Contest, Judge, ledger_of
from evalsuite_train.feedback.reward import open_judge
from evalsuite_train.feedback.rows import read_prompts, write_jsonl
from evalsuite_train.model import load_model
from evalsuite_train.recipe import Recipe
from evalsuite_train.sft.parent import weights_digest

JOURNAL = "state-judgements.jsonl"
FILE = "preferences.jsonl"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of AI feedback.

    Attributes:
        parent: the section or folder of the checkpoint whose replies are compared.
        prompts: RL prompts; ``asked`` of them are used, from the top.
        judge: ``endpoint`` or ``rm``.
        base_url, model: the judge's endpoint and its name there.
        key_variable: the environment variable with the endpoint's key.
        principles: what makes a reply the better one, said to the judge.
        concurrency: questions under way at a time; ``attempts`` at each, of ``seconds`` each.
        max_tokens: of the judge's answer.
        rm: the section or folder of the reward model.
        margin: the least difference of the reward model's scores, in their standard deviations.
    """

    parent: str = "sft"
    prompts: str = "data/prompts.jsonl"
    asked: int = 1000
    judge: Literal["endpoint", "rm"] = "endpoint"
    base_url: str | None = None
    model: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    principles: str = PRINCIPLES
    concurrency: int = 8
    attempts: int = 8
    seconds: float = 120.0
    max_tokens: int = 256
    rm: str | None = None
    margin: float = 0.5
    template: str = "ziya"
    samples: int = 4
    max_new_tokens: int = 48
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.judge == "endpoint" and not (self.base_url and self.model):
            raise ValueError("judge is 'endpoint', which needs base_url and model")
        if self.judge == "rm" and not self.rm:
            raise ValueError("judge is 'rm', but no rm is named")
        if (
            self.samples < 2
            or self.concurrency < 1
            or self.attempts < 1
            or not self.temperature > 0
        ):
            raise ValueError("samples ≥ 2, concurrency and attempts ≥ 1, temperature > 0")
        check_sampling(self)
        if not (self.seconds > 0 and self.max_tokens > 0 and self.margin >= 0):
            raise ValueError("seconds and max_tokens must be above 0, margin at least 0")


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Sample, compare, label; writes ``preferences.jsonl`` and ``ledger.json``."""
    asked = read_prompts(recipe.file(config.prompts))[: config.asked]
    parent = recipe.parent(config.parent)
    sampling = Sampling(
        template=config.template,
        samples=config.samples,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
    )
    found = sample(
        asked,
        load_model(parent),
        load_tokenizer(parent),
        sampling,
        out / "state-candidates.jsonl",
        seed=recipe.seed,
        identity=weights_digest(parent),
    )
    contests, dropped = contests_of(found, recipe.seed)
    label = _by_endpoint if config.judge == "endpoint" else _by_reward_model
    better, more = label(contests, config, recipe, out)
    dropped.update(fault for fault in better if fault not in ("one", "other"))
    rows = [
        _preference(contest, who)
        for contest, who in zip(contests, better, strict=True)
        if who in ("one", "other")
    ]
    ledger = {
        "prompts": len(asked),
        "labelled": len(rows),
        "dropped": dict(sorted(dropped.items())),
    }
    text = json.dumps({**ledger, "judge": more}, indent=2, ensure_ascii=False)
    (out / "ledger.json").write_text(text + "\n", encoding="utf-8")
    if missing := dropped["no answer"]:
        raise TrainError(
            f"{missing} of {len(contests)} contests got no answer from the judge",
            where=str(config.base_url),
            hint="the same command asks only those again",
        )
    if not rows:
        raise BadData(
            f"not one pair was labelled: {ledger['dropped']}",
            where=str(out / "ledger.json"),
            hint="ask more prompts, draw more samples, or take another judge",
        )
    write_jsonl(out / FILE, rows)


def contests_of(found: Iterable[Candidate], seed: int) -> tuple[list[Contest], Counter[str]]:
    """Two finished, different replies of each prompt in a random order, and who has none.

    Truncated replies never take part: the better of two is learnt from, and neither has an end.
    """
    by_prompt: dict[str, list[Candidate]] = {}
    for candidate in found:
        by_prompt.setdefault(candidate.id, []).append(candidate)
    contests, dropped = [], Counter[str]()
    for name, group in by_prompt.items():
        whole = [c for c in group if c.finished and c.reply]
        different = list({c.reply: c for c in whole}.values())[:2]
        if len(different) < 2:
            dropped["all the same" if len(whole) > 1 else "truncated"] += 1
            continue
        random.Random(f"{seed}/{name}").shuffle(different)
        one, other = different
        contests.append(Contest(name, one.task, one.prompt, one.reply, other.reply))
    return contests, dropped


def _by_endpoint(
    contests: list[Contest], config: Config, recipe: Recipe, out: Path
) -> tuple[list[str], dict[str, Any]]:
    """Who is better, or why nobody is; and what is said of the judge."""
    endpoint = Endpoint(
        str(config.base_url),
        str(config.model),
        config.key_variable,
        attempts=config.attempts,
        seconds=config.seconds,
    )
    try:
        judge = Judge(endpoint, out / JOURNAL, str(config.model), config.principles)
        outcomes = judge.outcomes(
            contests, concurrency=config.concurrency, max_tokens=config.max_tokens
        )
    finally:
        endpoint.close()
    answered = judge.answered_by(contests)
    if len(answered) > 1:
        print(f"note: several models answered: {shown(str(answered))}", flush=True)
    said = {"model": config.model, "answered by": answered}
    return [o.better or o.fault for o in outcomes], {**said, **ledger_of(outcomes)}


def _by_reward_model(
    contests: list[Contest], config: Config, recipe: Recipe, out: Path
) -> tuple[list[str], dict[str, Any]]:
    model = open_judge(recipe, str(config.rm), (c.task for c in contests))
    one = model.scores([(c.prompt, c.one) for c in contests])
    other = model.scores([(c.prompt, c.other) for c in contests])
    better = [
        "tie" if abs(a - b) < config.margin else "one" if a > b else "other"
        for a, b in zip(one, other, strict=True)
    ]
    return better, {"rm": config.rm, "contests": len(contests)}


def _preference(contest: Contest, better: str) -> dict[str, str]:
    replies = (contest.one, contest.other)
    chosen, rejected = replies if better == "one" else replies[::-1]
    return {
        "task": contest.task,
        "prompt": contest.prompt,
        "chosen": chosen,
        "rejected": rejected,
    }
