"""Load on a server: requests that arrive when they arrive, whether it keeps up or not."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from evalsuite.bench.streaming import Question, Reply, Streamer
from evalsuite.measurements import Quantity, Role, quantity

PERCENTILES = (50, 90, 95, 99)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a user still takes, in seconds; None for anything."""

    ttft: float | None = None
    tpot: float | None = None

    def met(self, reply: Reply) -> bool:
        """Whether an answer came in time."""
        if reply.error or (self.ttft is not None and reply.ttft > self.ttft):
            return False
        return self.tpot is None or reply.tpot is None or reply.tpot <= self.tpot


def arrivals(rate: float, count: int, seed: str) -> list[float]:
    """Seconds from the start at which requests arrive: a Poisson process; all at once for inf."""
    if math.isinf(rate):
        return [0.0] * count
    lot = random.Random(f"arrivals {seed}")
    moments, now = [], 0.0
    for _ in range(count):
        moments.append(now)
        now += lot.expovariate(rate)
    return moments


async def pour(
    streamer: Streamer, questions: Sequence[Question], moments: Sequence[float]
) -> list[Reply]:
    """Ask each question at its moment, however many are still unanswered; the replies in order."""
    start = time.perf_counter()

    async def one(question: Question, moment: float) -> Reply:
        due = start + moment
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        return await streamer.ask(question, due)

    return list(await asyncio.gather(*(one(q, m) for q, m in zip(questions, moments, strict=True))))


def load_quantities(
    workload: str, rounds: Sequence[Sequence[Reply]], limits: Limits
) -> list[Quantity]:
    """Percentiles, rates and goodput of each round, from its answers; failures are counted."""
    sound = [[reply for reply in replies if not reply.error] for replies in rounds]
    found = [
        quantity(
            workload,
            "failed",
            "requests",
            [[float(len(a) - len(b))] for a, b in zip(rounds, sound, strict=True)],
        )
    ]
    if not any(sound):
        return found
    series = {
        "ttft": [[reply.ttft for reply in replies] for replies in sound],
        "tpot": [[r.tpot for r in replies if r.tpot is not None] for replies in sound],
        "itl": [[gap for reply in replies for gap in reply.gaps] for replies in sound],
        "latency": [[reply.ended - reply.sent for reply in replies] for replies in sound],
    }
    for name, values in series.items():
        for share in PERCENTILES:
            role: Role = "speed" if share == 50 and name in ("ttft", "tpot") else ""
            each = [[float(np.percentile(v, share))] if v else [] for v in values]
            if any(each):
                found.append(quantity(workload, f"{name}_p{share}", "s", each, role=role))
    spans = [_span(replies) for replies in rounds]
    counts = {
        "requests_per_second": ("1/s", [len(replies) for replies in sound]),
        "answer_tokens_per_second": ("tokens/s", [_tokens(replies) for replies in sound]),
        "goodput": ("1/s", [sum(map(limits.met, replies)) for replies in rounds]),
    }
    if limits == Limits():
        del counts["goodput"]
    for name, (unit, numbers) in counts.items():
        rates = [[count / span] for count, span in zip(numbers, spans, strict=True)]
        found.append(quantity(workload, name, unit, rates, higher_is_better=True))
    return found


def lateness(replies: Sequence[Reply]) -> float:
    """How much too late requests were sent, in seconds, 99th percentile: the client's own fault."""
    return float(np.percentile([reply.sent - reply.due for reply in replies], 99))


def _span(replies: Sequence[Reply]) -> float:
    """From the first arrival to the last answer."""
    return max(max(r.ended for r in replies) - min(r.due for r in replies), 1e-9)


def _tokens(replies: Sequence[Reply]) -> int:
    return sum(reply.answer_tokens for reply in replies)
