"""What the rest of the machine did while something was timed."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import msgspec

BUSY = 0.1
"""Share of the machine's processors that others may use before a timing is doubted."""
STOLEN = 0.02
"""Likewise the share that a hypervisor gave to other guests."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of time.

    Attributes:
        seconds: wall time.
        cpu_seconds: processor time of this process and of those it started.
        others: share of the machine's processor time that other processes used.
        stolen: share that the hypervisor kept from this machine.
    """

    seconds: float
    cpu_seconds: float
    others: float = 0.0
    stolen: float = 0.0


class Clock:
    """Started when made; :meth:`span` is everything since."""

    def __init__(self) -> None:
        self._machine = _machine_times()
        self._own = _own_time()
        self._began = time.perf_counter()

    def span(self) -> Span:
        """Wall and processor time since the start, and what others used meanwhile."""
        seconds = time.perf_counter() - self._began
        own = _own_time() - self._own
        before, now = self._machine, _machine_times()
        total = sum(now) - sum(before)
        idle = _idle(now) - _idle(before)
        stolen = getattr(now, "steal", 0.0) - getattr(before, "steal", 0.0)
        if total <= 0:
            return Span(seconds=seconds, cpu_seconds=own)
        return Span(
            seconds=seconds,
            cpu_seconds=own,
            others=min(1.0, max(0.0, (total - idle - stolen - own) / total)),
            stolen=max(0.0, stolen / total),
        )


def complaint(spans: list[Span]) -> str:
    """What makes timings doubtful, with the share over all of them; empty if nothing does."""
    whole = sum(span.seconds for span in spans)
    if not whole:
        return ""
    others = sum(span.others * span.seconds for span in spans) / whole
    stolen = sum(span.stolen * span.seconds for span in spans) / whole
    found = []
    if others > BUSY:
        found.append(f"other processes used {others:.0%} of the processors")
    if stolen > STOLEN:
        found.append(f"the hypervisor took {stolen:.0%} of the time")
    load = (
        f" (load average {os.getloadavg()[0]:.1f})" if found and hasattr(os, "getloadavg") else ""
    )
    return " and ".join(found) + load


def _machine_times() -> Any:
    import psutil

    return psutil.cpu_times()


def _idle(times: Any) -> float:
    """Idle time; guest time is in user time as well and is taken out once with it."""
    return float(
        times.idle
        + getattr(times, "iowait", 0.0)
        + getattr(times, "guest", 0.0)
        + getattr(times, "guest_nice", 0.0)
    )


def _own_time() -> float:
    """Processor time of this process and of all it started, ended or not."""
    import psutil

    times = os.times()
    total = times.user + times.system + times.children_user + times.children_system
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                spent = child.cpu_times()
                total += spent.user + spent.system
    return total
