"""The log of a training, ``log.jsonl``, and the curves drawn from it."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from evalsuite_train.files import write_whole


class Log:
    """Rows appended to ``log.jsonl``; going back to a saved step also takes back its later rows.

    Args:
        path: the file; what stands in it stays until :meth:`back_to`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.silent = False  # of several processes one writes

    def size(self) -> int:
        """The file's length in bytes, to be kept in a state."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def back_to(self, size: int, *, keep_events: bool = False) -> None:
        """Cut the file to the ``size`` it had when a state was saved.

        Args:
            keep_events: write the events (such as spikes) of the removed part again: they did
                happen in this process. Without it they will happen again.
        """
        if self.silent or self.size() <= size:
            return
        content = self.path.read_bytes()
        gone = content[size:].splitlines() if keep_events else []
        with self.path.open("r+b") as file:
            file.truncate(size)
        for line in gone:
            with contextlib.suppress(ValueError):
                if "event" in json.loads(line):
                    self._append(line.decode("utf-8"))

    def write(self, row: dict[str, Any]) -> None:
        """Append a row and show it."""
        if self.silent:
            return
        line = json.dumps(row, ensure_ascii=False)
        print(line, flush=True)
        self._append(line)

    def _append(self, line: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``log.jsonl``; a last line cut off by a crash is left out."""
    rows: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
    return rows


def shipped_log(path: Path, limit: int = 30_000) -> str:
    """The log as a checkpoint ships it, at most ``limit`` bytes: every event, rows evenly thinned."""
    rows = read_log(path)
    for every in range(1, len(rows) + 1):
        kept = [row for i, row in enumerate(rows) if "event" in row or i % every == 0]
        if rows and kept[-1] is not rows[-1]:
            kept.append(rows[-1])
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
        if len(text.encode()) <= limit:
            return text
    return ""


WIDTH, HEIGHT, LEFT, TOP = 560, 180, 64, 48  # of one panel, in pixels
COLOURS = {"loss": "#1f4e8c", "accuracy": "#2b7a3f"}
NAMES = {"loss": "loss (nats a token)", "accuracy": "next-token accuracy"}


def draw(path: Path, svg: Path) -> None:
    """Draw loss and next-token accuracy over the steps of a log, spikes marked, as an SVG."""
    rows = read_log(path)
    measured = [row for row in rows if "loss" in row]
    if not measured:
        return
    spikes = [row["step"] for row in rows if row.get("event") == "spike"]
    last = max([row["step"] for row in measured] + spikes)
    panels = [
        _panel(i, name, [(row["step"], row[name]) for row in measured], spikes, last)
        for i, name in enumerate(COLOURS)
    ]
    width, height = LEFT + WIDTH + 24, 2 * (HEIGHT + TOP) + 44
    write_whole(
        svg,
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="#333">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(panels)}'
        f'<text x="{LEFT + WIDTH / 2}" y="{height - 8}" text-anchor="middle">step</text></svg>\n',
    )


def _panel(
    index: int, name: str, points: list[tuple[int, float]], spikes: list[int], last: int
) -> str:
    top = TOP + index * (HEIGHT + TOP)
    values = [value for _, value in points]
    low, high = min(0.0, *values), max(values) * 1.05 or 1.0

    def x(step: float) -> float:
        return LEFT + WIDTH * step / last

    def y(value: float) -> float:
        return top + HEIGHT * (1 - (value - low) / (high - low))

    parts = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{NAMES[name]}</text>']
    for tick in _ticks(low, high):
        parts.append(
            f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for tick in _ticks(0, last):
        parts.append(
            f'<text x="{x(tick):.1f}" y="{top + HEIGHT + 16}" text-anchor="middle">{tick:g}</text>'
        )
    for step in spikes:
        parts.append(
            f'<line x1="{x(step):.1f}" x2="{x(step):.1f}" y1="{top}" y2="{top + HEIGHT}" stroke="#c0392b" '
            f'stroke-dasharray="4 3"><title>spike at step {step}, rolled back</title></line>'
            f'<text x="{x(step) + 4:.1f}" y="{top + 12}" fill="#c0392b">spike</text>'
        )
    line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    parts.append(
        f'<polyline points="{line}" fill="none" stroke="{COLOURS[name]}" stroke-width="1.8"/>'
    )
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from ``low`` to ``high``."""
    raw = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    return [round(step * i, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
