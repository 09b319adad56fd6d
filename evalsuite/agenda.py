"""What a run still has to do, kept small however much that is."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import overload

import msgspec

from evalsuite.cache import AnswerCache
from evalsuite.engines.base import Engine, Prepared
from evalsuite.plan import PlannedTask
from evalsuite.request import Failure, Generate
from evalsuite.shelf import Shelf
from evalsuite.task import Sample

Done = dict[tuple[str, str], bool]
"""(task, sample) → whether its record holds an error."""

WINDOW = 8192
"""Jobs that are handed to the engine together. What a window's requests share is computed once."""

_PORTION = 2048
"""Requests that are prepared together."""


class Job(msgspec.Struct, frozen=True):
    """One sample that still has no record: where it belongs and how it is asked."""

    planned: PlannedTask
    sample: Sample
    prepared: Prepared


class Forecast(msgspec.Struct):
    """What is known of one task's jobs before anything is computed.

    Attributes:
        waiting: samples without a record.
        cached: of those, how many an earlier run answered.
        prompts, prompt_tokens: how many have a prompt in tokens, and their tokens together.
        cut: prompts that lost tokens on the left.
        unaskable: samples that will be error records.
    """

    waiting: int = 0
    cached: int = 0
    prompts: int = 0
    prompt_tokens: int = 0
    cut: int = 0
    unaskable: int = 0


class _Entry(msgspec.Struct, frozen=True):
    """A job without what its task can say again. ``prompt`` is an array of 32-bit numbers."""

    task: int
    sample: int
    key: str
    prompt: bytes
    tails: tuple[tuple[int, ...], ...]
    failure: Failure | None
    truncated: int


class Jobs(Sequence[Job]):
    """Jobs that are put together when they are read.

    The order is that of the plan; of many, those that share a prefix are brought together, and
    choices come before texts, which come in the order of their limits, the longest first.
    """

    def __init__(self, tasks: Sequence[PlannedTask]) -> None:
        self._tasks = tasks
        self._entries: Shelf[_Entry] = Shelf()
        self._ranks = array("Q")
        self._order: array[int] | range = range(0)
        self._prefixes: dict[int, int] = {}
        self._numbers: list[int] = []

    def append(self, task: int, sample: int, ready: Prepared) -> None:
        """Add the job of a sample, which is ``tasks[task].samples[sample]``."""
        request = ready.request
        limit = request.sampling.max_tokens if isinstance(request, Generate) else 1 << 23
        prefix = self._prefixes.setdefault(hash(request.prompt.prefix), len(self._prefixes))
        self._ranks.append(((1 << 23) - min(limit, 1 << 23)) << 32 | prefix)
        prompt = array("I", ready.prompt).tobytes()
        self._entries.append(
            _Entry(task, sample, ready.key, prompt, ready.tails, ready.failure, ready.truncated)
        )

    def arrange(self) -> None:
        """Bring them into order, once all are there."""
        self._order = range(len(self._entries))
        if len(self._entries) > WINDOW:
            self._order = array("Q", sorted(self._order, key=self._ranks.__getitem__))

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | list[Job]:
        if isinstance(index, slice):
            return [self._job(self._entries[at]) for at in self._order[index]]
        return self._job(self._entries[self._order[index]])

    def _job(self, entry: _Entry) -> Job:
        planned = self._tasks[entry.task]
        sample = planned.samples[entry.sample]
        prepared = Prepared(
            name=request_name(planned, sample),
            request=planned.requests[entry.sample],
            key=entry.key,
            prompt=self._ids(entry.prompt),
            tails=entry.tails,
            failure=entry.failure,
            truncated=entry.truncated,
        )
        return Job(planned, sample, prepared)

    def _ids(self, prompt: bytes) -> tuple[int, ...]:
        """One int object for each token, not for each occurrence."""
        ids = array("I", prompt)
        try:
            return tuple(map(self._numbers.__getitem__, ids))
        except IndexError:
            self._numbers = list(range(2 * max(ids) + 1))
            return tuple(map(self._numbers.__getitem__, ids))


class Agenda(msgspec.Struct, frozen=True):
    """What a run still has to do.

    Attributes:
        jobs: samples without a record.
        recorded: samples that an earlier start already wrote down.
        by_task: what is expected of each task, in the plan's order.
        from_cache: distinct requests whose answers an earlier run knows.
        to_ask: distinct requests that the engine must answer.
        prompt_tokens: tokens of those requests' prompts.
        repeated: numbers of the keys that several jobs share, see :func:`key_number`.
    """

    jobs: Jobs
    recorded: int
    by_task: list[Forecast]
    from_cache: int
    to_ask: int
    prompt_tokens: int
    repeated: frozenset[int]


def agenda(
    tasks: Sequence[PlannedTask],
    engine: Engine,
    cache: AnswerCache,
    done: Done,
    *,
    retry_failed: bool = False,
) -> Agenda:
    """Prepare every request and find out which still need the engine.

    Args:
        done: what the journal holds already.
        retry_failed: ask samples again whose record holds an error.
    """
    jobs, forecasts = Jobs(tasks), [Forecast() for _ in tasks]
    seen, repeated = set[int](), set[int]()
    recorded = from_cache = to_ask = prompt_tokens = 0
    for portion in _portions(tasks, engine, done, retry_failed=retry_failed):
        keys = {ready.key for _, _, ready, waits in portion if waits and ready.failure is None}
        known = cache.known(keys)
        for task, sample, ready, waits in portion:
            if not waits:
                recorded += 1
                continue
            jobs.append(task, sample, ready)
            cached = ready.failure is None and ready.key in known
            _count(forecasts[task], ready, cached=cached)
            if ready.failure is not None:
                continue
            number = key_number(ready.key)
            if number in seen:
                repeated.add(number)
                continue
            seen.add(number)
            from_cache += cached
            if not cached:
                to_ask += 1
                prompt_tokens += len(ready.prompt)
    jobs.arrange()
    return Agenda(jobs, recorded, forecasts, from_cache, to_ask, prompt_tokens, frozenset(repeated))


def key_number(key: str) -> int:
    """The first 60 bits of a content key: enough to suspect two of being equal, in less memory."""
    return int(key[:15], 16)


def request_name(planned: PlannedTask, sample: Sample) -> str:
    """How a request is called in messages, and looked up in files of answers."""
    return f"{planned.task.meta.name}/{sample.id}"


_Waiting = tuple[int, int, Prepared, bool]
"""Task, sample, its prepared request, and whether it still has to be answered."""


def _portions(
    tasks: Sequence[PlannedTask], engine: Engine, done: Done, *, retry_failed: bool
) -> Iterator[list[_Waiting]]:
    places = [
        (task, at) for task, planned in enumerate(tasks) for at in range(len(planned.samples))
    ]
    size = _PORTION if engine.takes_portions else max(len(places), 1)
    for start in range(0, len(places), size):
        portion = places[start : start + size]
        samples = [tasks[task].samples[at] for task, at in portion]
        requests = [tasks[task].requests[at] for task, at in portion]
        names = [
            request_name(tasks[task], sample)
            for (task, _), sample in zip(portion, samples, strict=True)
        ]
        prepared = engine.prepare(names, requests)
        found = []
        for (task, at), sample, ready in zip(portion, samples, prepared, strict=True):
            failed = done.get((tasks[task].part.name, sample.id))
            found.append((task, at, ready, failed is None or (failed and retry_failed)))
        yield found


def _count(forecast: Forecast, ready: Prepared, *, cached: bool) -> None:
    forecast.waiting += 1
    forecast.cached += cached
    forecast.prompts += bool(ready.prompt)
    forecast.prompt_tokens += len(ready.prompt)
    forecast.cut += ready.truncated > 0
    forecast.unaskable += ready.failure is not None
