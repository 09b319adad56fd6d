"""From what the checks and the zygote report to one verdict."""

from __future__ import annotations

import os
import signal

import msgspec

from evalsuite.sandbox.program import Outcome, Verdict

_GIVEN: dict[str, Outcome] = {
    "passed": "passed",
    "failed": "failed",
    "out_of_memory": "out_of_memory",
    "broken": "sandbox_error",
}


class Told(msgspec.Struct, frozen=True):
    """The checks' own message."""

    outcome: str
    detail: str
    where: str


class Report(msgspec.Struct, frozen=True):
    """The zygote's, about the processes. ``program`` and ``checks`` are wait statuses."""

    fault: str
    ended_by: str
    program: int | None
    checks: int | None
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def judge(told: Told | None, report: Report) -> Verdict:
    """The verdict without the output: what the checks told comes first, then who ended them."""
    outcome, detail, where = _outcome(told, report)
    return Verdict(
        outcome=outcome,
        detail=detail,
        where=where,
        wall_seconds=report.wall_seconds,
        cpu_seconds=report.cpu_seconds,
        peak_bytes=report.peak_bytes,
    )


def _outcome(told: Told | None, report: Report) -> tuple[Outcome, str, str]:
    if report.fault:
        return "sandbox_error", report.fault, ""
    if told is not None and told.outcome in _GIVEN:
        return _GIVEN[told.outcome], told.detail, told.where
    if report.ended_by == "time":
        return "timed_out", "the wall clock's limit", ""
    if report.ended_by == "memory":
        return "out_of_memory", "its processes together", ""
    if told is not None and told.outcome == "gone":
        return _how_it_ended(report.program)
    if report.checks is not None and _signal(report.checks) == signal.SIGXCPU:
        return "timed_out", "the processor time's limit", "checks"
    return "sandbox_error", f"the checks ended without a verdict ({_described(report.checks)})", ""


def _how_it_ended(status: int | None) -> tuple[Outcome, str, str]:
    number = None if status is None else _signal(status)
    if number == signal.SIGXCPU:
        return "timed_out", "the processor time's limit", "solution"
    if number is not None:
        return "killed", _described(status), "solution"
    return "failed", f"{_described(status)} before its checks ended", "solution"


def _signal(status: int) -> int | None:
    code = os.waitstatus_to_exitcode(status)
    return -code if code < 0 else None


def _described(status: int | None) -> str:
    if status is None:
        return "closed its channel"
    number = _signal(status)
    if number is None:
        return f"exited with {os.waitstatus_to_exitcode(status)}"
    try:
        return f"signal {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"
