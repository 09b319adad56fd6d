"""What is computed while the clock runs: prompts of given lengths, or a task's own requests."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from evalsuite.engines.base import Engine, Prepared
from evalsuite.errors import BadOption, EngineFailed
from evalsuite.measurements import Workload
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.request import (
    Choose,
    Failure,
    Generate,
    Generated,
    Prompt,
    Response,
    Sampling,
    Score,
)

SHORT = 8
"""Prompt tokens where only decoding is to be measured."""

_WORDS = (
    "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏 "
    "The quick brown fox jumps over the lazy dog while seven wizards pack my box with jugs. "
    "0123456789 + - = , . ; 人工智能模型评测速度内存"
)


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """Of a synthetic workload: so many requests of so many tokens."""

    prompt_tokens: int = 512
    answer_tokens: int = 64
    requests: int = 16


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What answers took, whoever computed them.

    Attributes:
        requests: answered.
        prompt_tokens: of all of them, each counted in full; a longer choice counts its prompt again.
        answer_tokens: generated.
        unique_tokens: different beginnings of token sequences: the least that any engine must run
            through the model.
        rows: positions whose logits are needed.
        longest: tokens of the longest answer, which no batching makes fewer.
    """

    requests: int
    prompt_tokens: int
    answer_tokens: int
    unique_tokens: int
    rows: int
    longest: int


def synthetic(lengths: Lengths) -> list[Workload]:
    """Prefill alone, decoding alone after a very short prompt, and both."""
    both = Workload(
        name="mixed",
        requests=lengths.requests,
        prompt_tokens=lengths.prompt_tokens,
        answer_tokens=lengths.answer_tokens,
    )
    short = min(SHORT, lengths.prompt_tokens)
    return [
        msgspec.structs.replace(both, name="prefill", answer_tokens=0),
        msgspec.structs.replace(both, name="decode", prompt_tokens=short),
        both,
    ]


def prompts(engine: Engine, workload: Workload, seed: int) -> list[Prepared]:
    """Random prompts of exactly the lengths asked for; another seed gives others.

    Without an answer each is a score of one token after the prompt.

    Raises:
        BadOption: the engine has no tokenizer here, or the lengths exceed its context.
    """
    needed = workload.prompt_tokens + max(1, workload.answer_tokens)
    if engine.context is not None and needed > engine.context:
        raise BadOption(
            f"{needed} tokens of prompt and answer do not fit a context of {engine.context}",
            where=f"workload {workload.name}",
            hint="give smaller --prompt-tokens or --answer-tokens",
        )
    first, pool = _tokens(engine)
    lot = random.Random(f"{seed} {workload.name}")
    found = []
    for number in range(workload.requests):
        ids = tuple(lot.choices(pool, k=workload.prompt_tokens + 1))
        name = f"bench/{workload.name}-{seed}-{number}"
        prompt = (first, *ids[1:-1])
        if workload.answer_tokens:
            sampling = Sampling(max_tokens=workload.answer_tokens)
            found.append(Prepared(name, Generate(Prompt(""), sampling), key=name, prompt=prompt))
        else:
            score = Score(Prompt(""), "")
            found.append(Prepared(name, score, key=name, prompt=prompt, tails=((ids[-1],),)))
    return found


def task_requests(
    engine: Engine, task: str, data: str, limit: int | None, seed: int
) -> list[Prepared]:
    """A task's requests as a run asks them: checked, and equal ones once.

    Args:
        data: its real data; empty for the sample set.

    Raises:
        EvalsuiteError: the task or its data is unsound.
    """
    choice = TaskChoice(label=task, data=Path(data).expanduser() if data else None)
    planned = plan_task(choice, limit=limit, seed=seed)
    names = [f"{task}/{sample.id}" for sample in planned.samples]
    ready = engine.prepare(names, planned.requests)
    unique = {item.key: item for item in ready if item.failure is None}
    if not unique:
        why = next((item.failure.message for item in ready if item.failure), "no samples")
        raise BadOption(f"no sample of {task} can be asked: {why}", where="--tasks")
    return list(unique.values())


def answered(engine: Engine, prepared: Sequence[Prepared]) -> list[Response]:
    """All answers.

    Raises:
        EngineFailed: a request that failed, since a speed over fewer would be too good.
    """
    found: dict[int, Response] = {}
    for index, answer in engine.answer(prepared):
        if isinstance(answer, Failure):
            raise EngineFailed(
                f"{answer.code}: {answer.message}",
                where=prepared[index].name,
                hint="give fewer or shorter requests, or smaller --batch-tokens",
            )
        found[index] = answer
    return [found[index] for index in range(len(prepared))]


def tally(prepared: Sequence[Prepared], answers: Sequence[Response]) -> Tally:
    """Count tokens."""
    generated = [len(a.token_ids) for a in answers if isinstance(a, Generated)]
    rows = sum(generated)
    prompt = 0
    for item in prepared:
        apart = [tail for tail in item.tails if len(tail) > 1]
        copies = len(apart) + (len(apart) < len(item.tails)) if item.tails else 1
        prompt += copies * len(item.prompt) + sum(len(tail) - 1 for tail in apart)
        if item.tails:
            rows += sum(len(tail) - 1 for tail in item.tails)
            rows += 1 if isinstance(item.request, Choose) else len(item.tails)
    unique = distinct_prefixes(
        item.prompt + tail[:-1] for item in prepared for tail in item.tails or ((),)
    )
    return Tally(
        requests=len(prepared),
        prompt_tokens=prompt,
        answer_tokens=sum(generated),
        unique_tokens=unique + sum(count - 1 for count in generated if count),
        rows=rows,
        longest=max(generated, default=0),
    )


def distinct_prefixes(sequences: Iterable[tuple[int, ...]]) -> int:
    """Nodes of the trie of all sequences."""
    total = 0
    before: tuple[int, ...] = ()
    for sequence in sorted(set(sequences)):
        shared = 0
        for one, other in zip(before, sequence, strict=False):
            if one != other:
                break
            shared += 1
        total += len(sequence) - shared
        before = sequence
    return total


def _tokens(engine: Engine) -> tuple[int, list[int]]:
    """The id that a prompt begins with, and ordinary ids to draw from."""
    request = Generate(Prompt(_WORDS, plain=True), Sampling(max_tokens=1))
    [ready] = engine.prepare(["bench/words"], [request])
    if len(ready.prompt) < SHORT:
        raise BadOption(
            f"the engine {engine.name} shows no tokens, so prompts of given lengths cannot be made",
            hint="give --tasks NAME, whose prompts are text",
        )
    return ready.prompt[0], list(ready.prompt[1:])
