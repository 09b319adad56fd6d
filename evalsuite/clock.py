"""Moments on the wall and on the processor, from the start of the process on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

_IMPORTED = time.monotonic()


class Moment(msgspec.Struct, frozen=True):
    """A point in time, in seconds.

    Attributes:
        wall: of the monotonic clock, whose zero means nothing.
        cpu: processor time of this process so far, all its threads together.
    """

    wall: float
    cpu: float


def now() -> Moment:
    """This moment."""
    return Moment(time.monotonic(), time.process_time())


def process_start() -> Moment:
    """When this process began, to a hundredth of a second; off Linux, when this file was imported."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks = int(fields[19])  # "starttime" of proc(5), after the name that ends in ")"
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return Moment(_IMPORTED, 0.0)
    return Moment(time.monotonic() - age, 0.0)
