"""Answers become scored records; the programs of code tasks run meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from evalsuite.code import CodeTask, judged
from evalsuite.errors import SandboxError
from evalsuite.metrics.metric import Metric
from evalsuite.plan import PlannedTask
from evalsuite.record import Record
from evalsuite.request import Failure, Response
from evalsuite.sandbox import Kind, Program, Sandbox, Verdict, open_sandbox
from evalsuite.task import Outcome, Sample, Task


class Scorer:
    """Scores answers, in a sandbox where that means to run them.

    The sandbox is opened before anything is asked, or when the first program comes.

    Args:
        kind: of the sandbox; see :func:`evalsuite.sandbox.open_sandbox`.
    """

    def __init__(self, kind: Kind = "bubblewrap") -> None:
        self.kind = kind
        self._sandbox: Sandbox | None = None
        self._waiting: dict[int, tuple[Any, PlannedTask, Sample, Record, Program]] = {}
        self._number = 0
        self._batch: Any = None

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

    def add(self, planned: PlannedTask, sample: Sample, record: Record, tag: Any) -> Record | None:
        """The scored record, or None while its program runs; then it comes with ``tag`` later."""
        task, response = planned.task, record.response
        if response is None:
            return record
        if not isinstance(task, CodeTask):
            return _scored(planned, sample, record, lambda: task.score(sample, response))
        try:
            program = task.program(sample, response, planned.part.variant)
        except (Exception, SystemExit) as fault:
            return _failed(record, "scorer_failed", f"{type(fault).__name__}: {fault}")
        if program is None:
            return _scored(planned, sample, record, lambda: judged(None, None))
        if self._batch is None:
            self._batch = self._opened().batch()
        self._number += 1
        self._waiting[self._number] = (tag, planned, sample, record, program)
        self._batch.add(self._number, program)
        return None

    def ended(self) -> Iterator[tuple[Any, Record]]:
        """The records whose programs have ended by now, with their tags."""
        return self._told(self._batch.ready()) if self._batch is not None else iter(())

    def rest(self) -> Iterator[tuple[Any, Record]]:
        """All others, as their programs end."""
        return self._told(self._batch.rest()) if self._batch is not None else iter(())

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

    def _opened(self) -> Sandbox:
        if self._sandbox is None:
            self._sandbox = open_sandbox(self.kind)
        return self._sandbox

    def _told(self, verdicts: Iterable[tuple[int, Verdict]]) -> Iterator[tuple[Any, Record]]:
        for number, verdict in verdicts:
            tag, planned, sample, record, program = self._waiting.pop(number)
            if verdict.outcome == "sandbox_error":
                yield tag, _failed(record, "sandbox_failed", verdict.detail)
            else:
                outcome = judged(program, verdict)
                yield tag, _scored(planned, sample, record, lambda found=outcome: found)

    def close(self) -> None:
        """End what still runs; its records are given up."""
        if self._sandbox is not None:
            self._sandbox.close()
        self._sandbox = self._batch = None
        self._waiting.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _scored(planned: PlannedTask, sample: Sample, record: Record, score: Any) -> Record:
    """The record with its scores; a scorer that raises gives an error record."""
    try:
        outcome = _checked(score(), planned.part.metrics)
    except (Exception, SystemExit) as fault:
        return _failed(record, "scorer_failed", f"{type(fault).__name__}: {fault}")
    return msgspec.structs.replace(
        record,
        scores=outcome.scores,
        answer=outcome.answer,
        note=outcome.note,
        target=sample.target,
        error=None,
    )


def _failed(record: Record, code: str, message: str) -> Record:
    error = Failure(code, message)
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
