"""Plan → dispatch → score → append.

The runner joins a plan with an engine: it drops what the journal or the cache already knows, asks
for the rest, and scores and writes down every answer at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from evalsuite.cache import AnswerCache
from evalsuite.engines.base import Engine, Prepared
from evalsuite.errors import EngineFailed, EvalsuiteError
from evalsuite.metrics.metric import Metric
from evalsuite.plan import PlannedTask
from evalsuite.record import Record, digest
from evalsuite.request import Chosen, Failure, Prompt, Response, Scored
from evalsuite.store import Journal
from evalsuite.task import Outcome, Sample

PREFIX_KEY_LENGTH = 12


class Job(msgspec.Struct, frozen=True):
    """One sample that still has no record: where it belongs and how it is asked."""

    planned: PlannedTask
    sample: Sample
    prepared: Prepared


class Agenda(msgspec.Struct, frozen=True):
    """What a run still has to do.

    Attributes:
        jobs: samples without a record, in the plan's order.
        recorded: samples that an earlier start already wrote down.
        cached: content keys whose answers an earlier run knows.
        to_ask: distinct requests that the engine must answer.
        prompt_tokens: tokens of those requests' prompts.
    """

    jobs: list[Job]
    recorded: int
    cached: dict[str, Response]
    to_ask: int
    prompt_tokens: int


class Listener(Protocol):
    """Whoever shows progress."""

    def record(self, record: Record) -> None:
        """A sample was finished."""


def prefix_key(prefix: str) -> str:
    """The key of a shared prompt prefix in ``prefixes.json``; empty for no prefix."""
    return digest(prefix.encode("utf-8", "surrogatepass"))[:PREFIX_KEY_LENGTH] if prefix else ""


def agenda(
    tasks: Sequence[PlannedTask],
    engine: Engine,
    cache: AnswerCache,
    done: dict[tuple[str, str], bool],
    *,
    retry_failed: bool = False,
) -> Agenda:
    """Prepare every request and find out which still need the engine.

    Args:
        done: (task, sample) → whether its record holds an error, from the journal.
        retry_failed: ask samples again whose record holds an error.
    """
    names = [f"{t.task.meta.name}/{s.id}" for t in tasks for s in t.samples]
    requests = [request for t in tasks for request in t.requests]
    prepared = iter(engine.prepare(names, requests))
    jobs: list[Job] = []
    recorded = 0
    for planned in tasks:
        for sample in planned.samples:
            ready = next(prepared)
            failed = done.get((planned.part.name, sample.id))
            if failed is None or (failed and retry_failed):
                jobs.append(Job(planned, sample, ready))
            else:
                recorded += 1
    keys = {job.prepared.key: job.prepared for job in jobs if job.prepared.failure is None}
    cached = cache.get(keys)
    asked = [ready for key, ready in keys.items() if key not in cached]
    tokens = sum(len(ready.prompt) for ready in asked)
    return Agenda(jobs, recorded, cached, len(asked), tokens)


def carry_out(
    agenda: Agenda, engine: Engine, cache: AnswerCache, journal: Journal, listener: Listener
) -> None:
    """Answer, score and append until nothing is left.

    Raises:
        EngineFailed: the engine broke; what was finished is in the journal.
        KeyboardInterrupt: the user stopped it; likewise.
    """
    journal.write_prefixes(_prefixes(agenda.jobs))
    waiting: dict[str, list[Job]] = {}
    ready: list[Prepared] = []
    for job in agenda.jobs:
        key = job.prepared.key
        if job.prepared.failure is not None:
            _finish([job], job.prepared.failure, journal, listener)
        elif key in agenda.cached:
            _finish([job], agenda.cached[key], journal, listener, cached=True)
        else:
            if key not in waiting:
                ready.append(job.prepared)
            waiting.setdefault(key, []).append(job)
    for key, answer in _answers(engine, ready):
        if not isinstance(answer, Failure):
            cache.put({key: answer})
        _finish(waiting.pop(key), answer, journal, listener)
    if waiting:
        raise EngineFailed(
            f"{len(waiting)} requests were never answered", where=f"engine {engine.name}"
        )


def _answers(engine: Engine, ready: list[Prepared]) -> Iterator[tuple[str, Response | Failure]]:
    try:
        for index, answer in engine.answer(ready):
            yield ready[index].key, _finite(answer)
    except (EvalsuiteError, KeyboardInterrupt):
        raise
    except Exception as fault:
        raise EngineFailed(
            f"{type(fault).__name__}: {fault}",
            where=f"engine {engine.name}",
            hint="what was finished is kept; the same command goes on from there",
        ) from fault


def _finite(answer: Response | Failure) -> Response | Failure:
    """Broken weights give nan; that is a failure of the engine, not an answer."""
    numbers: tuple[float, ...] = ()
    if isinstance(answer, Chosen):
        numbers = answer.logprobs
    elif isinstance(answer, Scored):
        numbers = (answer.logprob,)
    if all(math.isfinite(number) for number in numbers):
        return answer
    return Failure(
        "engine_failed", "a log-likelihood is not a finite number; are the weights sound?"
    )


def _finish(
    jobs: list[Job],
    answer: Response | Failure,
    journal: Journal,
    listener: Listener,
    *,
    cached: bool = False,
) -> None:
    records = [_record(job, answer, cached=cached) for job in jobs]
    journal.append(records)
    for record in records:
        listener.record(record)


def _record(job: Job, answer: Response | Failure, *, cached: bool) -> Record:
    prompt = job.prepared.request.prompt
    record = Record(
        task=job.planned.part.name,
        sample=job.sample.id,
        tags=job.sample.tags,
        cluster=job.sample.cluster,
        key=job.prepared.key,
        prompt=prompt.text,
        prefix=prefix_key(prompt.prefix),
        target=job.sample.target,
        cached=cached,
    )
    if isinstance(answer, Failure):
        return msgspec.structs.replace(record, error=answer)
    return scored(job.planned, job.sample, msgspec.structs.replace(record, response=answer))


def scored(planned: PlannedTask, sample: Sample, record: Record) -> Record:
    """The record with the scores of its response; a scorer that raises gives an error record."""
    if record.response is None:
        return record
    try:
        outcome = _checked(planned.task.score(sample, record.response), planned.part.metrics)
    except (Exception, SystemExit) as fault:
        error = Failure("scorer_failed", f"{type(fault).__name__}: {fault}")
        return msgspec.structs.replace(record, scores={}, answer=None, error=error)
    return msgspec.structs.replace(
        record, scores=outcome.scores, answer=outcome.answer, target=sample.target, error=None
    )


def _checked(outcome: Outcome, metrics: Sequence[Metric]) -> Outcome:
    """The outcome as the journal will give it back; raises where it could not, or lacks a score."""
    plain = msgspec.convert(msgspec.to_builtins(outcome), Outcome)
    for name, value in plain.scores.items():
        if not all(map(math.isfinite, value if isinstance(value, list) else [value])):
            raise ValueError(f"the score {name} is {value}")
    if missing := {metric.source for metric in metrics} - plain.scores.keys():
        raise ValueError(f"it gives no score {', '.join(sorted(missing))}")
    return plain


def _prefixes(jobs: Sequence[Job]) -> dict[str, str]:
    prompts: list[Prompt] = [job.prepared.request.prompt for job in jobs]
    return {prefix_key(p.prefix): p.prefix for p in prompts if p.prefix}


class Stopwatch:
    """Seconds by phase, for ``run.json``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._mark = time.monotonic()

    def lap(self, phase: str) -> None:
        """Add the time since the last lap to a phase."""
        now = time.monotonic()
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + now - self._mark, 3)
        self._mark = now
