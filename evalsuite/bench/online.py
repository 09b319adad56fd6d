"""``evalsuite bench --base-url``: load on a server at several rates."""

from __future__ import annotations

import asyncio
import datetime
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

import evalsuite
from evalsuite.bench.hardware import hardware, software
from evalsuite.bench.host import Clock, Span, complaint
from evalsuite.bench.load import Limits, arrivals, lateness, load_quantities, pour
from evalsuite.bench.streaming import Question, Reply, Streamer
from evalsuite.bench.workload import Lengths
from evalsuite.errors import BadOption
from evalsuite.measurements import Bench, Configuration, Workload, bench_id
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.request import Generate
from evalsuite.stats.medians import LEAST

LATE = 0.05
"""Seconds by which requests may be sent too late before the client is in doubt."""

_WORDS = (
    "the of and to in is you that it he was for on are as with his they at be this have".split()
)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of each model.

    Attributes:
        rates: requests a second; inf for all at once.
        timeout: seconds that one answer may take.
    """

    base_url: str
    rates: tuple[float, ...]
    lengths: Lengths
    limits: Limits = Limits()
    tasks: tuple[str, ...] = ()
    data: dict[str, str] = {}
    rounds: int = LEAST
    seed: int = 0
    timeout: float = 300.0


def bench_online(
    models: Sequence[str], load: Load, command: tuple[str, ...], say: Callable[[str], None]
) -> tuple[Bench, int]:
    """Measure each model at each rate, in turn, round after round.

    Returns:
        The record, and 4 where a model never answered, else 0.

    Raises:
        BadOption: a rate or an address that cannot be.
        EngineUnavailable: a server that answers nothing at all.
    """
    for rate in load.rates:
        if not rate > 0:
            raise BadOption(f"a rate of {rate}", where="--rates", hint="requests a second: 1,2,4")
    if load.rounds < 1 or load.lengths.requests < 1:
        raise BadOption("nothing to ask", where="--rounds, --requests", hint="give 1 or more")
    created = _now()
    clock = Clock()
    replies = asyncio.run(_all(models, load, say))
    address = urlsplit(load.base_url).netloc
    configurations = tuple(_configuration(model, load, replies[model]) for model in models)
    bench = Bench(
        bench_id=bench_id(created, command, models[0].rpartition("/")[2] or "server"),
        created=created,
        finished=_now(),
        evalsuite=evalsuite.__version__,
        command=command,
        hardware=hardware(used=0, server=address),
        environment=software(),
        workloads=tuple(_workload(rate, load) for rate in load.rates),
        rounds=load.rounds,
        repeats=1,
        seed=load.seed,
        configurations=configurations,
        warnings=tuple(_warnings(load, replies, clock.span())),
    )
    return bench, 4 if any(c.failure for c in configurations) else 0


_Replies = dict[float, list[list[Reply]]]
"""Rate → the replies of each round."""


async def _all(
    models: Sequence[str], load: Load, say: Callable[[str], None]
) -> dict[str, _Replies]:
    streamers = {model: Streamer(load.base_url, model, load.timeout) for model in models}
    try:
        tokens = {model: (await s.connect()).prompt_tokens / 8 for model, s in streamers.items()}
        found: dict[str, _Replies] = {m: {rate: [] for rate in load.rates} for m in models}
        for number in range(load.rounds):
            for rate in load.rates:
                for model in models if number % 2 == 0 else reversed(models):
                    say(f"round {number + 1}/{load.rounds}: {model} at {_named(rate)}")
                    seed = f"{load.seed} {number} {rate}"
                    questions = _questions(load, seed, tokens[model] or 1.0)
                    moments = arrivals(rate, len(questions), seed)
                    found[model][rate].append(await pour(streamers[model], questions, moments))
        return found
    finally:
        for streamer in streamers.values():
            await streamer.close()


def _questions(load: Load, seed: str, tokens_a_word: float) -> list[Question]:
    """Tasks' own prompts, or words that make about as many tokens as asked for, never the same."""
    lengths = load.lengths
    lot = random.Random(f"questions {seed}")
    if load.tasks:
        own = [question for task in load.tasks for question in _of_task(task, load)]
        return lot.sample(own, k=min(lengths.requests, len(own)))
    words = max(1, round(lengths.prompt_tokens / max(tokens_a_word, 0.1)))
    return [
        Question(" ".join(lot.choices(_WORDS, k=words)), lengths.answer_tokens)
        for _ in range(lengths.requests)
    ]


def _of_task(task: str, load: Load) -> list[Question]:
    """Texts are generated as the task says; choices and scores ask for one token."""
    data = load.data.get(task, "")
    choice = TaskChoice(label=task, data=Path(data).expanduser() if data else None)
    planned = plan_task(choice, seed=load.seed)
    return [
        Question(r.prompt.full, r.sampling.max_tokens if isinstance(r, Generate) else 1)
        for r in planned.requests
    ]


def _configuration(model: str, load: Load, replies: _Replies) -> Configuration:
    every = [reply for rounds in replies.values() for one in rounds for reply in one]
    failed = [reply.error for reply in every if reply.error]
    quantities = [
        found
        for rate, rounds in replies.items()
        for found in load_quantities(_named(rate), rounds, load.limits)
    ]
    whole = len(failed) == len(every)
    return Configuration(
        label=model,
        model=model,
        fingerprint="",
        engine={"name": "server", "address": urlsplit(load.base_url).netloc},
        quantities=tuple(quantities),
        failure=f"no request was answered: {failed[0]}" if whole else "",
    )


def _workload(rate: float, load: Load) -> Workload:
    lengths = load.lengths
    plain = {"prompt_tokens": lengths.prompt_tokens, "answer_tokens": lengths.answer_tokens}
    return Workload(name=_named(rate), requests=lengths.requests, **({} if load.tasks else plain))


def _warnings(load: Load, replies: dict[str, _Replies], span: Span) -> list[str]:
    found = []
    every = [
        r for model in replies.values() for rounds in model.values() for o in rounds for r in o
    ]
    failed = [reply.error for reply in every if reply.error]
    if failed:
        found.append(f"{len(failed)} of {len(every)} requests failed, the first: {failed[0]}")
    late = lateness(every)
    if late > LATE:
        found.append(f"requests were sent up to {late:.2f} s late: this client is too busy")
    if why := complaint([span]):
        found.append(f"this machine was busy: {why} (a server here counts as well)")
    if load.rounds < LEAST:
        found.append(f"{load.rounds} rounds give no intervals, and no gate can pass; {LEAST} do")
    return found


def _named(rate: float) -> str:
    return "all at once" if math.isinf(rate) else f"{rate:g}/s"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
