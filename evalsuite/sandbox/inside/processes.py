"""What the kernel tells of processes that still run."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def descendants(ancestor: int) -> list[int]:
    """Every process below ``ancestor``."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int(_fields(folder)[1])
                children.setdefault(parent, []).append(int(folder.name))
    found: list[int] = []
    new = [ancestor]
    while new:
        new = [child for parent in new for child in children.get(parent, [])]
        found += new
    return found


def _fields(folder: Path) -> list[str]:
    """Of ``stat``, from the state on; a name may hold any character but does not come after it."""
    return (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()


def resident_bytes(processes: list[int]) -> int:
    """Their memory that no file backs."""
    pages = 0
    for process in processes:
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{process}/statm").read_text().split()
            pages += int(fields[1]) - int(fields[2])
    return pages * _PAGE


def usage(processes: list[int]) -> tuple[float, int]:
    """Processor seconds, those of their ended children included, and the largest one's peak bytes."""
    seconds, peak = 0.0, 0
    for process in processes:
        folder = Path(f"/proc/{process}")
        with contextlib.suppress(OSError, IndexError, ValueError):
            ended = sum(map(int, _fields(folder)[13:15])) / _TICKS
            own = sum(
                int((task / "schedstat").read_text().split()[0])
                for task in (folder / "task").iterdir()
            )
            seconds += ended + own / 1e9
            status = (folder / "status").read_text(errors="replace")
            peak = max(peak, int(status.partition("\nVmHWM:")[2].split()[0]) << 10)
    return seconds, peak
