"""Plan → dispatch → score → append.

The runner joins a plan with an engine: it drops what the journal or the cache already knows, asks
for the rest, and scores and writes down every answer at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Protocol

import msgspec

from evalsuite.agenda import WINDOW, Agenda, Job, key_number
from evalsuite.cache import AnswerCache
from evalsuite.engines.base import Engine, Prepared
from evalsuite.errors import EngineFailed, EvalsuiteError
from evalsuite.ledger import Ledger
from evalsuite.metrics.metric import Metric
from evalsuite.plan import PlannedTask
from evalsuite.record import Record, digest
from evalsuite.request import Chosen, Failure, Prompt, Response, Scored
from evalsuite.store import Journal
from evalsuite.task import Outcome, Sample

PREFIX_KEY_LENGTH = 12

_TOGETHER = 256
"""Answers that go into the cache at once; a kill loses them there, but not from the journal."""


class Listener(Protocol):
    """Whoever shows progress."""

    def record(self, record: Record) -> None:
        """A sample was finished."""


@lru_cache(maxsize=64)
def prefix_key(prefix: str) -> str:
    """The key of a shared prompt prefix in ``prefixes.json``; empty for no prefix."""
    return digest(prefix.encode("utf-8", "surrogatepass"))[:PREFIX_KEY_LENGTH] if prefix else ""


def carry_out(
    agenda: Agenda,
    engine: Engine,
    cache: AnswerCache,
    journal: Journal,
    listener: Listener,
    ledger: Ledger,
) -> None:
    """Answer, score and append until nothing is left; the ledger is told of time and tokens.

    Raises:
        EngineFailed: the engine broke; what was finished is in the journal.
        KeyboardInterrupt: the user stopped it; likewise.
    """
    shared: dict[str, Response | Failure] = {}
    for start in range(0, len(agenda.jobs), WINDOW):
        window = slice(start, start + WINDOW)
        _answer_window(agenda, window, shared, engine, cache, journal, listener, ledger)


def _answer_window(
    agenda: Agenda,
    window: slice,
    shared: dict[str, Response | Failure],
    engine: Engine,
    cache: AnswerCache,
    journal: Journal,
    listener: Listener,
    ledger: Ledger,
) -> None:
    """Carry some of the jobs out; nothing of them stays in memory.

    Args:
        shared: answers to earlier windows that this one may ask for again; it grows.
    """
    jobs = agenda.jobs[window]
    journal.write_prefixes(_prefixes(jobs))
    waiting = _without_engine(jobs, shared, cache, journal, listener, ledger)
    ready = [alike[0].prepared for alike in waiting.values()]
    fresh: dict[str, Response] = {}
    ledger.lap("score")
    try:
        for key, answer in _answers(engine, ready):
            ledger.lap("answer")
            if not isinstance(answer, Failure):
                fresh[key] = answer
            if key_number(key) in agenda.repeated:
                shared[key] = answer
            _finish(waiting.pop(key), answer, journal, listener, ledger)
            if len(fresh) >= _TOGETHER:
                cache.put(fresh)
                fresh = {}
            ledger.lap("score")
    finally:
        ledger.lap("answer")
        cache.put(fresh)
    if waiting:
        raise EngineFailed(
            f"{len(waiting)} requests were never answered", where=f"engine {engine.name}"
        )


def _without_engine(
    jobs: Sequence[Job],
    shared: dict[str, Response | Failure],
    cache: AnswerCache,
    journal: Journal,
    listener: Listener,
    ledger: Ledger,
) -> dict[str, list[Job]]:
    """Finish the jobs that need no engine; the others, by their keys."""
    cached = cache.get({job.prepared.key for job in jobs if job.prepared.failure is None})
    waiting: dict[str, list[Job]] = {}
    for job in jobs:
        key = job.prepared.key
        if job.prepared.failure is not None:
            _finish([job], job.prepared.failure, journal, listener, ledger)
        elif key in shared:
            _finish([job], shared[key], journal, listener, ledger)
        elif key in cached:
            _finish([job], cached[key], journal, listener, ledger, cached=True)
        else:
            waiting.setdefault(key, []).append(job)
    return waiting


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
    ledger: Ledger,
    *,
    cached: bool = False,
) -> None:
    records = [_record(job, answer, cached=cached) for job in jobs]
    journal.append(records)
    for job, record in zip(jobs, records, strict=True):
        ledger.finish(job.prepared, answer)
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
