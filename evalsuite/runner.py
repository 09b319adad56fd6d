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
from evalsuite.record import Record, digest
from evalsuite.request import Chosen, Failure, Prompt, Response, Scored
from evalsuite.scoring import Scorer
from evalsuite.store import Journal

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
    scorer: Scorer[None],
) -> None:
    """Answer, score and append until nothing is left; the ledger is told of time and tokens.

    Raises:
        EngineFailed: the engine broke; what was finished is in the journal.
        KeyboardInterrupt: the user stopped it; likewise.
    """
    shared: dict[str, Response | Failure] = {}
    finisher = _Finisher(journal, listener, ledger, scorer)
    for start in range(0, len(agenda.jobs), WINDOW):
        window = slice(start, start + WINDOW)
        _answer_window(agenda, window, shared, engine, cache, finisher)


def _answer_window(
    agenda: Agenda,
    window: slice,
    shared: dict[str, Response | Failure],
    engine: Engine,
    cache: AnswerCache,
    finisher: _Finisher,
) -> None:
    """Carry some of the jobs out; nothing of them stays in memory.

    Args:
        shared: answers to earlier windows that this one may ask for again; it grows.
    """
    jobs = agenda.jobs[window]
    ledger = finisher.ledger
    finisher.journal.write_prefixes(_prefixes(jobs))
    waiting = _without_engine(jobs, shared, cache, finisher)
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
            finisher.finish(waiting.pop(key), answer)
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
    finisher.rest()
    ledger.lap("score")


def _without_engine(
    jobs: Sequence[Job],
    shared: dict[str, Response | Failure],
    cache: AnswerCache,
    finisher: _Finisher,
) -> dict[str, list[Job]]:
    """Finish the jobs that need no engine; the others, by their keys."""
    cached = cache.get({job.prepared.key for job in jobs if job.prepared.failure is None})
    waiting: dict[str, list[Job]] = {}
    for job in jobs:
        key = job.prepared.key
        if job.prepared.failure is not None:
            finisher.finish([job], job.prepared.failure)
        elif key in shared:
            finisher.finish([job], shared[key])
        elif key in cached:
            finisher.finish([job], cached[key], cached=True)
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


class _Finisher:
    """Scores answers and writes their records down, those of programs as soon as these have ended."""

    def __init__(
        self, journal: Journal, listener: Listener, ledger: Ledger, scorer: Scorer[None]
    ) -> None:
        self.journal = journal
        self.ledger = ledger
        self._listener = listener
        self._scorer = scorer

    def finish(self, jobs: list[Job], answer: Response | Failure, *, cached: bool = False) -> None:
        """Finish samples that share an answer, and whatever programs have ended meanwhile."""
        done: list[Record] = []
        for job in jobs:
            self.ledger.finish(job.prepared, answer)
            record = _record(job, answer, cached=cached)
            done += [r for _, r in self._scorer.add(job.planned, job.sample, record, None)]
        self._write(done)

    def rest(self) -> None:
        """Finish the samples whose programs still run."""
        for _, record in self._scorer.rest():
            self._write([record])

    def _write(self, records: list[Record]) -> None:
        if records:
            self.journal.append(records)
        for record in records:
            self._listener.record(record)


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
    return msgspec.structs.replace(record, response=answer)


def _prefixes(jobs: Sequence[Job]) -> dict[str, str]:
    prompts: list[Prompt] = [job.prepared.request.prompt for job in jobs]
    return {prefix_key(p.prefix): p.prefix for p in prompts if p.prefix}
