"""The process that a sandbox starts once: for each program it makes two cells and ends them.

It never reads a program. The harness hands the open ends of pipes through its standard input, a
socket, and the cells read and write those; so nothing of one program is left here for the next.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from . import cell, checks, kernel, processes, solution
from .channel import Channel, Gone
from .values import Unreadable

NOBODY = 65534
_TICK = 0.025
_GRACE = 0.5
_MOST_TOLD = 2_500
_COMMON = """abc array ast bisect calendar cmath collections collections.abc contextlib copy csv
dataclasses datetime decimal enum fractions functools gc hashlib heapq inspect io itertools json
keyword linecache math numbers operator pprint queue random re secrets shutil statistics string
struct subprocess tempfile textwrap threading time traceback types typing unicodedata unittest
urllib.parse uuid warnings zlib""".split()

Pair = tuple[cell.Cell, cell.Cell]
"""The program's cell and the checks'."""

DESCRIPTORS = 5
"""Of one program: its text, its stdout and stderr, the checks' text, the verdict."""


def main() -> None:
    """Serve until the harness closes its end. Arguments: limits as JSON, ``cells`` or ``none``."""
    limits: dict[str, Any] = json.loads(sys.argv[1])
    isolate = sys.argv[2] == "cells"
    os.environ.clear()
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.putenv(f"{library}_NUM_THREADS", "1")
    if isolate and os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        kernel.set_dumpable(True)
    kernel.adopt_orphans()
    for name in _COMMON:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path.pop(0)
    gc.freeze()
    control = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    spare = _prepare(limits, isolate=isolate)
    control.sendall(b'{"ready": true}\n')
    while True:
        message, received, _, _ = socket.recv_fds(control, 1, DESCRIPTORS)
        if not message:
            break
        with _folder(isolate):
            spare = _run(spare, received, null, control, limits, isolate=isolate)
    _end_descendants()


def _prepare(limits: dict[str, Any], *, isolate: bool) -> Pair | None:
    """Cells for the next program. Where nothing keeps them from this one they are made only then."""
    if not isolate:
        return None
    return _pair(limits, isolate=True)


def _pair(limits: dict[str, Any], *, isolate: bool) -> Pair:
    program = cell.prepare(_solve, limits, isolate=isolate)
    return program, cell.prepare(_check, limits, isolate=isolate)


@contextlib.contextmanager
def _folder(isolate: bool) -> Iterator[None]:
    """Where no namespace gives one, a new folder to work in."""
    if isolate:
        yield
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        yield
        os.chdir("/")


def _run(
    pair: Pair | None,
    received: list[int],
    null: int,
    control: socket.socket,
    limits: dict[str, Any],
    *,
    isolate: bool,
) -> Pair | None:
    """Run one program and report; gives the cells of the next one, made meanwhile."""
    program, checker = pair or _pair(limits, isolate=isolate)
    text, out, err, job, verdict = received
    ours, theirs = socket.socketpair()
    begun = time.monotonic()
    with ours:  # held here so that the program does not end, and is counted, before it is ended
        program.open([null, out, err, theirs.fileno(), text])
        checker.open([null, null, null, ours.fileno(), job, verdict])
        theirs.close()
        for descriptor in received:
            os.close(descriptor)
        spare = _prepare(limits, isolate=isolate)
        ended_by = _watch(program, checker, control, begun, limits)
        program.kill()
        checker.kill()
        program.wait()
        checker.wait()
    if not isolate:
        _end_descendants()
    report = {
        "fault": program.fault or checker.fault,
        "ended_by": ended_by,
        "program": program.status,
        "checks": checker.status,
        "wall_seconds": time.monotonic() - begun,
        "cpu_seconds": program.seconds,
        "peak_bytes": program.peak_bytes,
    }
    control.sendall(json.dumps(report).encode() + b"\n")
    return spare


def _watch(
    program: cell.Cell,
    checker: cell.Cell,
    control: socket.socket,
    begun: float,
    limits: dict[str, Any],
) -> str:
    """Wait for the end of the checks; says what else ended them: ``time``, ``memory`` or nothing."""
    news = {program.descriptor: program, checker.descriptor: checker}
    poll = select.poll()
    for descriptor in (*news, control.fileno()):
        poll.register(descriptor, select.POLLIN)
    end = begun + limits["wall_seconds"]
    while checker.status is None:
        left = end - time.monotonic()
        if left <= 0:
            return "time"
        happened = poll.poll(min(left, _TICK) * 1000)
        for descriptor, _ in happened:
            if descriptor not in news:
                _end_descendants()  # the harness is gone, or wants no more
                os._exit(0)
            if not news[descriptor].read():
                poll.unregister(descriptor)
                if news[descriptor].status is None:
                    return ""
        if program.fault or checker.fault:
            return ""
        used = 0 if happened else processes.resident_bytes(program.members() + checker.members())
        if used > limits["memory_bytes"]:
            return "memory"
    if os.waitstatus_to_exitcode(checker.status) == checks.GONE:
        _await_status(program)
    return ""


def _await_status(program: cell.Cell) -> None:
    """Its end of the channel is closed; how it ended is known a moment later."""
    poll = select.poll()
    poll.register(program.descriptor, select.POLLIN)
    end = time.monotonic() + _GRACE
    while program.status is None and poll.poll(max(0.0, end - time.monotonic()) * 1000):
        if not program.read():
            return


def _end_descendants() -> None:
    """Kill what a program left behind, where no namespace does it."""
    while left := processes.descendants(os.getpid()):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


def _solve() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    channel = Channel(3)
    with open(4, encoding="ascii") as stream:
        job = json.load(stream)
    with contextlib.suppress(Gone, Unreadable):
        solution.serve(job["solution"], channel)


def _check() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with open(4, encoding="ascii") as stream:
        job = json.load(stream)
    verdict = 5

    def report(message: dict[str, str]) -> None:
        text = {
            name: value[:_MOST_TOLD].encode(errors="backslashreplace").decode()
            for name, value in message.items()
        }
        os.write(verdict, json.dumps(text).encode("ascii"))

    checks.check(job, Channel(3), report)
