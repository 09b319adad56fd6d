"""Several workers that share out programs."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Literal, Self

from evalsuite.errors import BadOption, SandboxUnavailable
from evalsuite.sandbox.bubblewrap import isolated_command, plain_command
from evalsuite.sandbox.probe import PROBE, fault_of
from evalsuite.sandbox.program import Limits, Program, Verdict
from evalsuite.sandbox.worker import NotStarted, Worker

Kind = Literal["bubblewrap", "none"]
_DESCRIPTIONS = {
    "bubblewrap": "bubblewrap: no network, no files but Python's, namespaces of its own a program",
    "none": "none: limits only; a program can read and write the user's files and use the network",
}
_HINT = "install bubblewrap, allow user namespaces, or run code unprotected with --sandbox none"

_Results = queue.SimpleQueue[tuple[int, Verdict]]


def open_sandbox(
    kind: Kind = "bubblewrap", *, limits: Limits | None = None, workers: int | None = None
) -> Sandbox:
    """A sandbox that was tried out.

    Args:
        kind: ``bubblewrap``, or ``none`` for programs that are known to be harmless.
        limits: what each program may take.
        workers: programs that run at a time; by default one a processor.

    Raises:
        SandboxUnavailable: this machine cannot isolate.
        BadOption: an unknown kind, or no worker.
    """
    if kind not in _DESCRIPTIONS:
        raise BadOption(f"sandbox {kind!r}", hint=f"one of {', '.join(_DESCRIPTIONS)}")
    if workers is None:
        workers = len(os.sched_getaffinity(0))
    if workers < 1:
        raise BadOption("a sandbox with no worker")
    limits = limits or Limits()
    if kind == "none":
        command = plain_command(limits)
    else:
        found = shutil.which("bwrap")
        if found is None:
            raise SandboxUnavailable("bubblewrap is not installed", hint=_HINT)
        command = isolated_command(found, limits)
    sandbox = Sandbox(kind, command, limits, workers)
    try:
        if kind != "none":
            (_, verdict), *_ = sandbox.run([PROBE])
            if fault := fault_of(verdict):
                raise SandboxUnavailable(fault, hint=_HINT)
    except BaseException:
        sandbox.close()
        raise
    return sandbox


class Batch:
    """Programs that are handed over one by one, and their verdicts as they end."""

    def __init__(self, jobs: queue.SimpleQueue[tuple[int, Program, _Results] | None]) -> None:
        self._jobs = jobs
        self._results: _Results = queue.SimpleQueue()
        self._running = 0

    def add(self, number: int, program: Program) -> None:
        """Let a program be run as soon as there is room; its verdict comes with ``number``."""
        self._running += 1
        self._jobs.put((number, program, self._results))

    def ended(self, running: int | None = None) -> Iterator[tuple[int, Verdict]]:
        """The verdicts that are there now; waits for more until at most ``running`` programs are left."""
        while self._running:
            try:
                waits = running is not None and self._running > running
                verdict = self._results.get(block=waits)
            except queue.Empty:
                return
            self._running -= 1
            yield verdict

    def give_up(self) -> None:
        """Take the programs that do not run yet out of the queue."""
        others = []
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is None or job[2] is not self._results:
                    others.append(job)
        for job in others:
            self._jobs.put(job)


class Sandbox:
    """Runs programs, several at a time, each in a fresh cell.

    Attributes:
        kind: how it isolates.
        description: the same in words.
        limits: what each program may take.
    """

    def __init__(self, kind: Kind, command: list[str], limits: Limits, workers: int) -> None:
        self.kind = kind
        self.description = _DESCRIPTIONS[kind]
        self.limits = limits
        self._command = command
        self._jobs: queue.SimpleQueue[tuple[int, Program, _Results] | None] = queue.SimpleQueue()
        self._running: set[Worker] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def run(self, programs: Iterable[Program]) -> Iterator[tuple[int, Verdict]]:
        """Each program's number, from 0, with its verdict, as they end.

        Programs are read from the iterable a few ahead of those that run.

        Raises:
            ValueError: the sandbox is closed.
        """
        batch = self.batch()
        try:
            for number, program in enumerate(programs):
                batch.add(number, program)
                yield from batch.ended(running=2 * len(self._threads) - 1)
            yield from batch.ended(running=0)
        finally:
            batch.give_up()

    def batch(self) -> Batch:
        """Programs that are handed over one by one.

        Raises:
            ValueError: the sandbox is closed.
        """
        if self._closed:
            raise ValueError("the sandbox is closed")
        return Batch(self._jobs)

    def _work(self) -> None:
        """One thread: it starts its own workers, since bubblewrap ends with the thread that did."""
        worker: Worker | None = None
        while (job := self._jobs.get()) is not None:
            number, program, results = job
            try:
                if worker is not None and not worker.alive:
                    worker.close()
                    worker = None
                if worker is None:
                    worker = self._started()
                verdict = worker.run(program)
            except Exception as fault:
                verdict = Verdict(
                    outcome="sandbox_error", detail=str(fault) or type(fault).__name__
                )
            results.put((number, verdict))
        if worker is not None:
            worker.close()

    def _started(self) -> Worker:
        worker = Worker(self._command, self.limits)
        with self._lock:
            self._running = {other for other in self._running if other.alive} | {worker}
            closed = self._closed
        if closed:
            worker.close()
            raise NotStarted("the sandbox is closed")
        return worker

    def close(self) -> None:
        """End every program; nothing is left running."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for _ in self._threads:
            self._jobs.put(None)
        for worker in running:
            worker.stop()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
