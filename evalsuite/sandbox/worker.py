"""One zygote as the harness sees it: started, handed one program at a time, ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import time

import msgspec

from evalsuite.sandbox.judging import Report, Told, judge
from evalsuite.sandbox.program import Limits, Program, Verdict

_START_SECONDS = 60.0
_GRACE_SECONDS = 20.0
_MOST_TOLD = 1 << 20


class NotStarted(Exception):
    """The zygote did not come up; the text says why."""


class _Stopped(Exception):
    pass


class Worker:
    """Runs programs one after the other.

    Args:
        command: starts a zygote whose standard input is a socket.
        limits: what it was started with.
    """

    def __init__(self, command: list[str], limits: Limits) -> None:
        self._limits = limits
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={"PYTHONHASHSEED": "0"},
                start_new_session=True,
            )
        self._control.settimeout(_START_SECONDS)
        try:
            started = self._control.recv(1 << 16)
        except OSError:
            started = b""
        if not started:
            raise NotStarted(self._last_words())
        self._control.setblocking(False)

    def _last_words(self) -> str:
        self.stop()
        assert self._process.stderr is not None
        lines = self._process.stderr.read(1 << 16).decode(errors="replace").strip().splitlines()
        self.close()
        return lines[-1][:300] if lines else f"exit code {self._process.returncode}"

    def run(self, program: Program) -> Verdict:
        """The verdict on one program; a ``sandbox_error`` if the zygote does not answer, which
        ends this worker."""
        exchange = _Exchange(self._control, self._limits)
        try:
            report, told = exchange.run(program)
        except (_Stopped, OSError, msgspec.MsgspecError) as fault:
            self.stop()
            return Verdict(
                outcome="sandbox_error", detail=f"the sandbox ended: {fault}".strip(": ")
            )
        finally:
            exchange.close()
        verdict = judge(told, report)
        out, err = (bytes(text).decode(errors="backslashreplace") for text in exchange.output)
        return msgspec.structs.replace(verdict, stdout=out, stderr=err)

    @property
    def alive(self) -> bool:
        """Whether it can run another program."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it with all that runs in it. Safe from any thread, and twice."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Stop it and give its files back; by the thread that runs programs in it."""
        self.stop()
        self._control.close()
        if self._process.stderr is not None:
            self._process.stderr.close()


class _Exchange:
    """The pipes of one program."""

    def __init__(self, control: socket.socket, limits: Limits) -> None:
        self._control = control
        self._limits = limits
        self._selector = selectors.DefaultSelector()
        self._reading: dict[int, bytearray] = {}
        self._writing: dict[int, memoryview] = {}
        self._theirs: list[int] = []
        self._report = bytearray()
        self.output = (bytearray(), bytearray())

    def _write_to_it(self, job: dict[str, str]) -> None:
        theirs, ours = os.pipe()
        self._theirs.append(theirs)
        self._writing[ours] = memoryview(json.dumps(job).encode("ascii"))
        os.set_blocking(ours, False)
        self._selector.register(ours, selectors.EVENT_WRITE)

    def _read_from_it(self, kept: bytearray) -> None:
        ours, theirs = os.pipe()
        self._theirs.append(theirs)
        self._reading[ours] = kept
        os.set_blocking(ours, False)
        self._selector.register(ours, selectors.EVENT_READ)

    def run(self, program: Program) -> tuple[Report, Told | None]:
        """Hand it over and read until everything is closed."""
        told = bytearray()
        self._write_to_it({"solution": program.solution})
        for kept in self.output:
            self._read_from_it(kept)
        names = ("preamble", "checks", "entry")
        self._write_to_it({name: getattr(program, name) for name in names})
        self._read_from_it(told)
        self._hand_over()
        self._selector.register(self._control, selectors.EVENT_READ)
        end = time.monotonic() + self._limits.wall_seconds + _GRACE_SECONDS
        while not self._report.endswith(b"\n") or self._reading:
            left = end - time.monotonic()
            if left <= 0:
                raise _Stopped("no answer in time")
            for key, _ in self._selector.select(left):
                self._serve(key.fd, _MOST_TOLD if self._reading.get(key.fd) is told else None)
        report = msgspec.json.decode(bytes(self._report), type=Report)
        return report, msgspec.json.decode(bytes(told), type=Told) if told else None

    def _hand_over(self) -> None:
        socket.send_fds(self._control, [b"p"], self._theirs)
        for descriptor in self._theirs:
            os.close(descriptor)
        self._theirs.clear()

    def _serve(self, descriptor: int, most: int | None) -> None:
        if descriptor in self._writing:
            self._write(descriptor)
        elif descriptor not in self._reading:
            part = self._control.recv(1 << 16)
            if not part:
                raise _Stopped
            self._report += part
        else:
            part = os.read(descriptor, 1 << 16)
            kept = self._reading[descriptor]
            kept += part[: max(0, (most or self._limits.output_bytes) - len(kept))]
            if not part:
                self._drop(descriptor)

    def _write(self, descriptor: int) -> None:
        rest = self._writing[descriptor]
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BrokenPipeError:
            rest = rest[:0]
        self._writing[descriptor] = rest
        if not rest:
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)
        os.close(descriptor)
        self._reading.pop(descriptor, None)
        self._writing.pop(descriptor, None)

    def close(self) -> None:
        """Close what is still open."""
        self._selector.close()
        for descriptor in (*self._reading, *self._writing, *self._theirs):
            os.close(descriptor)
