"""Answers become scored records; the programs of code tasks run meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

from evalsuite.code import CodeTask, judged
from evalsuite.errors import SandboxError
from evalsuite.metrics.metric import Metric
from evalsuite.plan import PlannedTask
from evalsuite.record import Record
from evalsuite.request import Failure, Response
from evalsuite.sandbox import Batch, Kind, Program, Sandbox, Verdict, open_sandbox
from evalsuite.task import Outcome, Sample, Task

MOST = 256
"""Programs that wait or run; with more, :meth:`Scorer.add` waits for some to end."""

Tag = TypeVar("Tag")


class _Running(msgspec.Struct, Generic[Tag], frozen=True):
    """A program whose verdict is to come, and what it belongs to."""

    tag: Tag
    planned: PlannedTask
    record: Record
    program: Program


class Scorer(Generic[Tag]):
    """Scores answers, in a sandbox where that means to run them.

    Args:
        kind: of the sandbox; see :func:`evalsuite.sandbox.open_sandbox`. It is opened before anything is
            asked (:meth:`open_for`), or when the first program comes.
    """

    def __init__(self, kind: Kind = "bubblewrap") -> None:
        self._kind = kind
        self._sandbox: Sandbox | None = None
        self._batch: Batch | None = None
        self._running: dict[int, _Running[Tag]] = {}
        self._number = 0

    def open_for(self, tasks: Iterable[Task]) -> str:
        """Open the sandbox if one of these tasks runs programs.

        Returns:
            How programs are isolated; empty where none are run.

        Raises:
            SandboxUnavailable: this machine cannot isolate them.
        """
        if not any(isinstance(task, CodeTask) for task in tasks):
            return ""
        return self._opened().description

    def add(
        self, planned: PlannedTask, sample: Sample, record: Record, tag: Tag
    ) -> list[tuple[Tag, Record]]:
        """Take an answer; this and earlier records with their tags, as far as they are scored by now."""
        task, response = planned.task, record.response
        if response is None:
            return [(tag, record), *self._ended(MOST)]
        record = msgspec.structs.replace(record, target=sample.target)
        try:
            if isinstance(task, CodeTask):
                program = task.program(sample, response, planned.part.variant)
                if program is not None:
                    self._start(_Running(tag, planned, record, program))
                    return list(self._ended(MOST))
                outcome = judged(None, None)
            else:
                outcome = task.score(sample, response)
        except (Exception, SystemExit) as fault:
            return [(tag, _failed(record, fault)), *self._ended(MOST)]
        return [(tag, _scored(record, outcome, planned.part.metrics)), *self._ended(MOST)]

    def rest(self) -> Iterator[tuple[Tag, Record]]:
        """The records whose programs still run, as these end."""
        return self._ended(0)

    def outcome(self, task: Task, sample: Sample, response: Response, variant: str = "") -> Outcome:
        """Score one answer and wait for it.

        Args:
            variant: how it was asked; the task's first by default.

        Raises:
            SandboxError: the sandbox failed, which says nothing about the answer.
        """
        if not isinstance(task, CodeTask):
            return task.score(sample, response)
        program = task.program(sample, response, variant or task.variant().name)
        if program is None:
            return judged(None, None)
        [(_, verdict)] = self._opened().run([program])
        if verdict.outcome == "sandbox_error":
            raise SandboxError(verdict.detail, where=f"{task.meta.name}/{sample.id}")
        return judged(program, verdict)

    def close(self) -> None:
        """End what still runs; its records are given up."""
        if self._sandbox is not None:
            self._sandbox.close()
        self._sandbox = self._batch = None
        self._running.clear()

    def _opened(self) -> Sandbox:
        if self._sandbox is None:
            self._sandbox = open_sandbox(self._kind)
        return self._sandbox

    def _start(self, running: _Running[Tag]) -> None:
        if self._batch is None:
            self._batch = self._opened().batch()
        self._number += 1
        self._running[self._number] = running
        self._batch.add(self._number, running.program)

    def _ended(self, left: int) -> Iterator[tuple[Tag, Record]]:
        if self._batch is None:
            return
        for number, verdict in self._batch.ended(running=left):
            running = self._running.pop(number)
            yield running.tag, _verdict_on(running, verdict)


def _verdict_on(running: _Running[Tag], verdict: Verdict) -> Record:
    if verdict.outcome == "sandbox_error":
        return _without_score(running.record, Failure("sandbox_failed", verdict.detail))
    outcome = judged(running.program, verdict)
    return _scored(running.record, outcome, running.planned.part.metrics)


def _scored(record: Record, outcome: Outcome, metrics: Sequence[Metric]) -> Record:
    """The record with its scores, if they are as the journal can hold them."""
    try:
        plain = _checked(outcome, metrics)
    except Exception as fault:
        return _failed(record, fault)
    return msgspec.structs.replace(
        record, scores=plain.scores, answer=plain.answer, note=plain.note, error=None
    )


def _failed(record: Record, fault: BaseException) -> Record:
    return _without_score(record, Failure("scorer_failed", f"{type(fault).__name__}: {fault}"))


def _without_score(record: Record, error: Failure) -> Record:
    return msgspec.structs.replace(record, scores={}, answer=None, note="", error=error)


def _checked(outcome: Outcome, metrics: Sequence[Metric]) -> Outcome:
    """The outcome as the journal will give it back; raises where it could not, or lacks a score."""
    plain = msgspec.convert(msgspec.to_builtins(outcome), Outcome)
    for name, value in plain.scores.items():
        if not all(map(math.isfinite, value if isinstance(value, list) else [value])):
            raise ValueError(f"the score {name} is {value}")
    if missing := {metric.source for metric in metrics} - plain.scores.keys():
        raise ValueError(f"it gives no score {', '.join(sorted(missing))}")
    return plain
