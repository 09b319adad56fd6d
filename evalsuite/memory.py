"""Memory of this process and those it started, as the operating system counts it."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path


def resident() -> int:
    """Bytes of physical memory that this process and its descendants hold now."""
    import psutil

    total = 0
    for pid in _family():
        with contextlib.suppress(psutil.Error):
            total += psutil.Process(pid).memory_info().rss
    return total


def peak() -> int:
    """The most that each held since it began, or since :func:`forget_peak`, added up (``VmHWM``)."""
    known = [_high_water(pid) for pid in _family()]
    if known[0] is None:
        unit = 1 if sys.platform == "darwin" else 1024
        known[0] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return sum(filter(None, known))


def forget_peak() -> bool:
    """Count peaks from now on; False where the system cannot (Linux can, see proc(5))."""
    done = True
    for pid in _family():
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        except OSError:
            done = False
    return done


def _family() -> list[int]:
    """This process first."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]
    return [os.getpid()]


def _high_water(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
