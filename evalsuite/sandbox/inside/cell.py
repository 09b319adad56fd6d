"""A cell: one process with namespaces, limits and file descriptors of its own.

Three processes make it. The first leaves the zygote's namespaces and ends; its child is process 1
of the new ones, prepares the file system and reaps; that one's child runs the body. When process 1
ends, the kernel kills whatever the body started, however it hid.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from . import kernel, processes

_HIGH = 200
"""What is open while a cell is made is moved above it, so that the body's files get the lowest numbers."""
_MOST_FILES = 8


class Cell:
    """A running cell, as the zygote sees it.

    Attributes:
        descriptor: readable when there is news of it.
        status: the body's wait status once it ended.
        fault: why the cell could not be made.
    """

    def __init__(self, descriptor: int, first: int, gate: socket.socket) -> None:
        self.descriptor = descriptor
        self._first = first
        self._gate = gate
        self.status: int | None = None
        self.fault = ""
        self.seconds = 0.0
        self.peak_bytes = 0
        self._process = 0
        self._text = b""

    def read(self) -> bool:
        """Take in the news; False at their end."""
        part = os.read(self.descriptor, 1 << 16)
        self._text += part
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            news = json.loads(line)
            self._process = news.get("process", self._process)
            self.status = news.get("status", self.status)
            self.fault = news.get("fault", self.fault)
        return bool(part)

    def open(self, descriptors: Sequence[int]) -> None:
        """Let the body begin, with these files of this process as its only ones, from 0 on."""
        with self._gate, contextlib.suppress(OSError):
            socket.send_fds(self._gate, [b"g"], descriptors)

    def members(self) -> list[int]:
        """The processes in it."""
        return processes.descendants(self._process) if self._process else []

    def kill(self) -> None:
        """Count what its processes took, and kill the first of them, with it the rest."""
        while not self._process and self.read():
            pass
        os.waitpid(self._first, 0)
        if self._process:
            self.seconds, self.peak_bytes = processes.usage(self.members())
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)

    def wait(self) -> None:
        """Return when nothing of a killed cell is left."""
        if self._process:
            _, _, usage = os.wait4(self._process, 0)
            self.seconds += usage.ru_utime + usage.ru_stime
            self.peak_bytes = max(self.peak_bytes, usage.ru_maxrss << 10)
        while self.read():
            pass
        os.close(self.descriptor)


def prepare(body: Callable[[], None], limits: dict[str, Any], *, isolate: bool) -> Cell:
    """A cell in which ``body`` waits to begin.

    Args:
        body: what to run; its process exits with 0 after it, with 1 if it raises.
        limits: the fields of :class:`evalsuite.sandbox.Limits`.
        isolate: make namespaces and drop rights; otherwise limits only.
    """
    news, tell = os.pipe()
    ours, theirs = socket.socketpair()
    first = os.fork()
    if first == 0:
        _guarded(tell, lambda: _leave(body, theirs.fileno(), limits, tell, isolate=isolate))
    os.close(tell)
    theirs.close()
    return Cell(news, first, ours)


def _guarded(tell: int, step: Callable[[], None]) -> NoReturn:
    try:
        step()
    except BaseException as fault:
        _say(tell, fault=f"{type(fault).__name__}: {fault}")
        os._exit(1)
    os._exit(0)


def _say(tell: int, **news: Any) -> None:
    with contextlib.suppress(OSError):
        os.write(tell, json.dumps(news).encode() + b"\n")


def _leave(
    body: Callable[[], None], gate: int, limits: dict[str, Any], tell: int, *, isolate: bool
) -> None:
    if isolate:
        user, group = os.geteuid(), os.getegid()
        kernel.unshare(kernel.NEW_NAMESPACES)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
        _write("/proc/self/oom_score_adj", "1000")
    process = os.fork()
    if process:
        _say(tell, process=process)
        return
    _guarded(tell, lambda: _reap(body, gate, limits, tell, isolate=isolate))


def _write(file: str, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _reap(
    body: Callable[[], None], gate: int, limits: dict[str, Any], tell: int, *, isolate: bool
) -> None:
    os.setsid()
    if isolate:
        kernel.mount_empty("/tmp", limits["disk_bytes"])
        kernel.mount_empty("/dev/shm", limits["disk_bytes"])
        kernel.mount_empty("/proc", 4096, read_only=True)
        os.chdir("/tmp")
        kernel.drop_rights()
        kernel.set_dumpable(False)
    process = os.fork()
    if process == 0:
        gate, tell = (fcntl.fcntl(file, fcntl.F_DUPFD, _HIGH) for file in (gate, tell))
        _guarded(tell, lambda: _confine(body, gate, limits, tell, isolate=isolate))
    os.closerange(0, tell)
    os.closerange(tell + 1, _HIGH)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == process:
            _say(tell, status=status)
            return


def _confine(
    body: Callable[[], None], gate: int, limits: dict[str, Any], tell: int, *, isolate: bool
) -> None:
    os.closerange(0, _HIGH)
    for name, most in _resources(limits, isolate=isolate):
        resource.setrlimit(name, most)
    if isolate:
        kernel.filter_calls()
    with socket.socket(fileno=gate) as opened:
        message, descriptors, _, _ = socket.recv_fds(opened, 1, _MOST_FILES)
    if not message:
        return
    if descriptors != list(range(len(descriptors))):
        raise OSError(f"files {descriptors}")
    os.close(tell)
    try:
        body()
    except BaseException:
        os._exit(1)
    os._exit(0)


def _resources(limits: dict[str, Any], *, isolate: bool) -> list[tuple[int, tuple[int, int]]]:
    """Every limit of the kernel with its soft and hard value.

    Outside a user namespace the number of processes counts all of the user's, so it is not limited.
    """
    memory, files = limits["memory_bytes"], limits["open_files"]
    every = [
        (resource.RLIMIT_AS, (memory, memory)),
        (resource.RLIMIT_CPU, (limits["cpu_seconds"], limits["cpu_seconds"] + 1)),
        (resource.RLIMIT_FSIZE, (limits["file_bytes"], limits["file_bytes"])),
        (resource.RLIMIT_NOFILE, (files, files)),
        (resource.RLIMIT_CORE, (0, 0)),
    ]
    if isolate:
        every.append((resource.RLIMIT_NPROC, (limits["processes"], limits["processes"])))
    return every
