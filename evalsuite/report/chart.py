"""Dots with intervals as SVG, drawn here so that the page needs no chart library.

Horizontal positions are percentages, so the picture fits any width while text and dots keep their
size; colours are classes of the page's style sheet, so it follows light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from evalsuite.report.visible import visible

_ROW = 40
_AXIS = 26
_NAME = 36
_DRAWABLE = 1e300


class Dot(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint; ``low`` and ``high`` nan where there is no interval, ``label`` its score."""

    name: str
    value: float
    low: float
    high: float
    label: str
    is_baseline: bool = False


def interval_chart(dots: Sequence[Dot], title: str, scale: float) -> Markup:
    """An ``<svg>`` of one row a dot, with an axis.

    Args:
        title: read aloud instead of the picture.
        scale: from the values to the numbers on the axis (100 for fractions).
    """
    finite = [x for d in dots for x in (d.value, d.low, d.high) if abs(x) < _DRAWABLE]
    if not finite or any(abs(d.value) >= _DRAWABLE for d in dots):
        return Markup("")
    ticks = nice_ticks(min(finite) * scale, max(finite) * scale)
    first, last = ticks[0] / scale, ticks[-1] / scale

    def x(value: float) -> str:
        return f"{1.5 + 97 * (value - first) / (last - first):.2f}%"

    height = _ROW * len(dots) + _AXIS
    parts = [
        Markup('<svg class="chart" role="img" width="100%" height="{}" aria-label="{}">').format(
            height, visible(title)
        )
    ]
    bottom = height - _AXIS + 4
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    for tick in ticks:
        parts.append(_line("grid", x(tick / scale), 0, x(tick / scale), bottom))
    for place, tick in enumerate(ticks):
        anchor = "start" if place == 0 else "end" if tick == ticks[-1] else "middle"
        at = "0%" if place == 0 else "100%" if tick == ticks[-1] else x(tick / scale)
        parts.append(_text("tick", at, bottom + 16, f"{tick:.{decimals}f}", anchor))
    for dot in dots:
        if dot.is_baseline and math.isfinite(dot.value):
            parts.append(_line("base", x(dot.value), 0, x(dot.value), bottom))
    for number, dot in enumerate(dots):
        parts.extend(_dot(dot, _ROW * number, x))
    return Markup("").join([*parts, Markup("</svg>")])


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers that enclose the range."""
    size = max(abs(low), abs(high))
    if high - low <= 1e-9 * size or size < 1e-300:
        around = 0.05 * size if size >= 1e-300 else 0.5
        low, high = low - around, high + around
    span = high - low
    magnitude = 10.0 ** math.floor(math.log10(span))
    step = next(m * magnitude for m in (0.2, 0.5, 1, 2) if span / (m * magnitude) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return [number * step for number in range(first, last + 1)]


def _dot(dot: Dot, top: int, x: object) -> list[Markup]:
    assert callable(x)
    middle = top + 28
    name = visible(dot.name)
    short = name if len(name) <= _NAME else name[: _NAME - 1] + "…"
    parts = [
        Markup("<g><title>{}: {}</title>").format(name, dot.label),
        _text("name", "0%", top + 15, short, "start"),
        _text("value", "100%", top + 15, dot.label, "end"),
    ]
    if math.isfinite(dot.low) and math.isfinite(dot.high):
        parts.append(_line("range", x(dot.low), middle, x(dot.high), middle))
        parts += [_line("range", x(e), middle - 4, x(e), middle + 4) for e in (dot.low, dot.high)]
    shape = Markup('<circle class="{}" cx="{}" cy="{}" r="4.5"/></g>')
    parts.append(shape.format("dot own" if dot.is_baseline else "dot", x(dot.value), middle))
    return parts


def _line(kind: str, x1: str, y1: int, x2: str, y2: int) -> Markup:
    shape = Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    return shape.format(kind, x1, y1, x2, y2)


def _text(kind: str, x: str, y: int, text: str, anchor: str) -> Markup:
    shape = Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>')
    return shape.format(kind, x, y, anchor, text)
