"""Curves of a PPO run: reward beside gold, and how far the policy has gone for them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from evalsuite_train.curves import read_log
from evalsuite_train.files import write_whole

Points = list[tuple[float, float]]
WIDTH, HEIGHT, LEFT, TOP, GAP = 560, 150, 60, 30, 48
COLOURS = ("#1f4e8c", "#b8860b", "#2b7a3f", "#8c1f4e")


def draw(log: Path, svg: Path) -> None:
    """Draw the panels of ``log.jsonl`` as an SVG, written whole or not at all."""
    rows = read_log(log)
    panels = [
        (title, {name: points for name, points in lines.items() if points})
        for title, lines in _panels(rows)
    ]
    panels = [(title, lines) for title, lines in panels if lines]
    last = max((row["iteration"] for row in rows), default=1) or 1
    alarms = [row["iteration"] for row in rows if "alarm" in row]
    parts = [_panel(i, title, lines, last, alarms) for i, (title, lines) in enumerate(panels)]
    width, height = LEFT + WIDTH + 150, TOP + len(panels) * (HEIGHT + GAP)
    write_whole(
        svg,
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="#333">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n',
    )


def _panels(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, Points]]]:
    def trained(key: str) -> Points:
        return [(r["iteration"], r[key]) for r in rows if r.get(key) is not None]

    def seen(key: str) -> Points:
        return [(r["iteration"], r["validation"][key]) for r in rows if "validation" in r]

    return [
        (
            "reward of the samples",
            {"reward": trained("reward"), "held-out prompts": seen("reward")},
        ),
        (
            "gold: share of replies that satisfy every rule",
            {
                "samples": trained("gold"),
                "held out, greedy": seen("gold_greedy"),
                "held out, sampled": seen("gold_sampled"),
            },
        ),
        ("KL against the reference (nats a reply)", {"kl": trained("kl")}),
        ("entropy (nats a token)", {"entropy": trained("entropy")}),
        ("value loss", {"value loss": trained("value_loss")}),
        ("length (tokens)", {"length": trained("length")}),
    ]


def _panel(index: int, title: str, lines: dict[str, Points], last: float, alarms: list[int]) -> str:
    top = TOP + index * (HEIGHT + GAP)
    values = [value for points in lines.values() for _, value in points]
    low, high = min(0.0, *values), max(0.0, *values)
    high = high if high > low else low + 1.0

    def place(point: tuple[float, float]) -> str:
        x = LEFT + WIDTH * point[0] / last
        return f"{x:.1f},{top + HEIGHT * (1 - (point[1] - low) / (high - low)):.1f}"

    parts = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{title}</text>']
    for tick in _ticks(low, high):
        y = place((0, tick)).split(",")[1]
        parts.append(
            f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y}" y2="{y}" stroke="#ddd"/>'
            f'<text x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end">{tick:g}</text>'
        )
    for tick in _ticks(0, last):
        x = place((tick, low)).split(",")[0]
        parts.append(f'<text x="{x}" y="{top + HEIGHT + 15}" text-anchor="middle">{tick:g}</text>')
    for alarm in alarms:
        x = place((alarm, low)).split(",")[0]
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{top}" y2="{top + HEIGHT}" stroke="#c0392b" stroke-dasharray="4 3">'
            "<title>reward and gold have parted</title></line>"
        )
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number]
        parts.append(
            f'<polyline points="{" ".join(map(place, points))}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
            f'<text x="{LEFT + WIDTH + 8}" y="{top + 14 + 16 * number}" fill="{colour}">{name}</text>'
        )
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from ``low`` to ``high``."""
    raw = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    return [round(step * i, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
