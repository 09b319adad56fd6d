"""The worker process as its engine sees it: started, asked, ended, and never left behind."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

from evalsuite.engines._vllm_frames import (
    FOLDER,
    Answer,
    Answered,
    Ask,
    Forget,
    Job,
    Load,
    Loaded,
    Order,
    Report,
    Trouble,
    receive,
    send,
)
from evalsuite.engines._vllm_trouble import error_of, last_words
from evalsuite.errors import EvalsuiteError

_PATIENCE = 10.0
"""Seconds that the worker has to end by itself."""

_TOGETHER = 256
"""Jobs of one message."""


class Worker:
    """A process with vLLM in it.

    Its output goes to a file, which is removed with it, unless something broke. It is in a session of
    its own, so that Ctrl-C reaches only the process that started it; it ends when that one does.

    Args:
        environment: all of its variables.

    Attributes:
        alive: whether it can be asked.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="evalsuite-vllm-"))
        self.log = self._folder / "vllm.log"
        own = {FOLDER: str(self._folder), "TMPDIR": str(self._folder), "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "evalsuite.engines._vllm_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment | own,
                start_new_session=True,
            )
        self._end = weakref.finalize(self, _end, self._process, self._folder)
        self._source = ""
        self._loaded: Loaded | None = None
        self._under_way: set[int] = set()
        self.alive = True

    def load(self, order: Load, source: str) -> None:
        """Begin to load a checkpoint, in place of any other; ``source`` is its name in errors."""
        self._source, self._loaded = source, None
        self._send(order)

    def loaded(self) -> Loaded:
        """Wait until the checkpoint is loaded.

        Raises:
            EvalsuiteError: it is not; the worker has ended.
        """
        if self._loaded is None:
            report = self._receive()
            assert isinstance(report, Loaded)
            self._loaded = report
        return self._loaded

    @property
    def pid(self) -> int:
        """The process, and its group."""
        return self._process.pid

    @property
    def idle(self) -> bool:
        """Whether a checkpoint is loaded and everything asked is answered."""
        return self.alive and self._loaded is not None and not self._under_way

    def forget(self) -> None:
        """Drop whatever is under way, and the prefix cache."""
        self._send(Forget())

    def ask(self, jobs: Iterable[Job], window: int) -> Iterator[Answer]:
        """Answers as they come, with at most ``window`` jobs and a message more under way.

        Raises:
            EngineFailed: vLLM broke, or its process died.
        """
        source, under_way = iter(jobs), set[int]()
        self._under_way = under_way
        exhausted = False
        while True:
            while not exhausted and len(under_way) < window:
                some = tuple(itertools.islice(source, _TOGETHER))
                exhausted = not some
                under_way.update(job.number for job in some)
                if some:
                    self._send(Ask(some))
            if not under_way:
                return
            report = self._receive()
            assert isinstance(report, Answered)
            for answer in report.answers:
                if answer.number in under_way:  # else of jobs that were dropped
                    under_way.remove(answer.number)
                    yield answer

    def close(self) -> None:
        """End the process and remove its log; may be called twice."""
        self.alive = False
        self._end()

    def _send(self, order: Order) -> None:
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, order)
        except (OSError, ValueError):
            raise self._died() from None

    def _receive(self) -> Report:
        assert self._process.stdout is not None
        whole = False
        try:
            report: Report | None = receive(self._process.stdout, Report)
            whole = True
        except (OSError, ValueError):
            report = None
        finally:
            self.alive = self.alive and whole  # an interrupt leaves half a message behind
        if report is None:
            raise self._died()
        if isinstance(report, Trouble):
            raise self._trouble(report.kind, report.message)
        return report

    def _died(self) -> EvalsuiteError:
        if not self.alive and self._process.poll() is None:
            self._end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        code = self._process.returncode
        said = last_words(_lines(self.log))
        if code is not None and code == -signal.SIGKILL and "Error" not in said:
            said = "its process was killed, perhaps for lack of memory"
        return self._trouble("other", said or f"its process ended with {code}")

    def _trouble(self, kind: str, message: str) -> EvalsuiteError:
        self.alive = False
        self._end.detach()
        _end(self._process, None)
        return error_of(
            kind,
            message,
            source=self._source,
            log=str(self.log),
            loaded=self._loaded is not None,
        )


def _end(process: subprocess.Popen[bytes], folder: Path | None) -> None:
    """Let the process end, and its group with it; remove its folder, if given."""
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.close()
    try:
        process.wait(_PATIENCE)
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:  # the rest of the group tidies up
            os.killpg(process.pid, 0)
            time.sleep(0.02)
    except (subprocess.TimeoutExpired, ProcessLookupError):
        pass
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-200:]
    except OSError:
        return []
