"""What goes into a sandbox and what comes out."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["passed", "failed", "timed_out", "out_of_memory", "killed", "sandbox_error"]


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A solution and what checks it; they run in two processes.

    Attributes:
        solution: the program under test, run as a module of its own.
        checks: Python that raises unless the solution is right, such as MBPP's asserts, or
            HumanEval's ``check`` and a call of it. Names that it does not define are the
            solution's. Arguments are copied to the solution, results copied back.
        entry: a name that is the solution's even where the preamble defines it.
        preamble: trusted code run before the checks in their process, such as HumanEval's prompt
            for the helpers in it.
    """

    solution: str
    checks: str
    entry: str = ""
    preamble: str = ""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one program may take. Bytes and seconds.

    Attributes:
        wall_seconds: until the checks have ended.
        cpu_seconds: of each process.
        memory_bytes: address space of each process, and resident memory of all together.
        processes: processes and threads.
        file_bytes: size of one file.
        disk_bytes: of ``/tmp``, and as much of ``/dev/shm``; both are memory.
        open_files: file descriptors of each process.
        output_bytes: of stdout and of stderr that are kept; more is read and dropped.
    """

    wall_seconds: float = 10.0
    cpu_seconds: int = 10
    memory_bytes: int = 1 << 30
    processes: int = 32
    file_bytes: int = 16 << 20
    disk_bytes: int = 64 << 20
    open_files: int = 64
    output_bytes: int = 64 << 10


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How a program did.

    Attributes:
        outcome: ``passed`` only if the checks ran to their end; ``sandbox_error`` says nothing
            about the program.
        detail: the exception, signal or limit.
        where: ``solution line N``, or ``checks line N: `` and that line; empty if nowhere.
        stdout, stderr: the first bytes that the program wrote, as text.
        wall_seconds: from the start of its processes until none was left.
        cpu_seconds: of the program's processes, without the checks.
        peak_bytes: resident memory of the largest of the program's processes.
    """

    outcome: Outcome
    detail: str = ""
    where: str = ""
    stdout: str = ""
    stderr: str = ""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0

    @property
    def passed(self) -> bool:
        """The program is right."""
        return self.outcome == "passed"
