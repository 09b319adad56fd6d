"""Curves over the stages as SVG: the trunk as a line with a band, branches dashed, alarms in red."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
from markupsafe import Markup

from evalsuite.record import Interval
from evalsuite.report.chart import nice_ticks
from evalsuite.report.visible import visible
from evalsuite.stages.rungs import Rung

WIDTH = 440
HEIGHT = 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 14, 44
_SHIFT = 7
"""How far the second series stands beside the first."""


class Curve(msgspec.Struct, frozen=True):
    """One way of decoding: rung → score."""

    name: str
    points: Mapping[str, Interval]


def stages_chart(
    rungs: Sequence[Rung],
    curves: Sequence[Curve],
    alarmed: Mapping[str, str],
    *,
    title: str,
    scale: float,
) -> Markup:
    """An ``<svg>`` of the curves of one task.

    Args:
        alarmed: rung → the reason of its alarm.
        title: read aloud instead of the picture.
        scale: from the values to the numbers on the axis (100 for fractions).
    """
    drawn = [rung for rung in rungs if any(_has(curve, rung.name) for curve in curves)]
    values = [
        value
        for curve in curves
        for rung in drawn
        if _has(curve, rung.name)
        for i in [curve.points[rung.name]]
        for value in (i.value, i.low, i.high)
        if math.isfinite(value)
    ]
    if not values:
        return Markup("")
    ticks = nice_ticks(min(values) * scale, max(values) * scale)
    if scale == 100:
        ticks = [tick for tick in ticks if -1e-9 <= tick <= 100 + 1e-9] or [0.0, 100.0]
    place = _Place(drawn, ticks[0] / scale, ticks[-1] / scale)
    parts = [_axis(place, tick, scale, ticks) for tick in ticks]
    parts += [
        _label(place, number, rung, rung.name in alarmed) for number, rung in enumerate(drawn)
    ]
    for number, curve in enumerate(curves):
        parts += _lines(place, curve, drawn, number)
    for number, curve in enumerate(curves):
        parts += _dots(place, curve, drawn, number, alarmed, scale)
    shape = Markup(
        '<svg class="curves" role="img" viewBox="0 0 {} {}" width="{}" height="{}" aria-label="{}">{}</svg>'
    )
    whole = Markup("").join(parts)
    return shape.format(WIDTH, HEIGHT, WIDTH, HEIGHT, visible(title), whole)


class _Place:
    """From rungs and values to the picture's units."""

    def __init__(self, rungs: Sequence[Rung], low: float, high: float) -> None:
        self.column = {rung.name: number for number, rung in enumerate(rungs)}
        self._low, self._high = low, max(high, low + 1e-12)
        self._step = (WIDTH - _LEFT - _RIGHT) / max(1, len(rungs))

    def x(self, rung: str, series: int = 0) -> float:
        return round(_LEFT + (self.column[rung] + 0.5) * self._step + _SHIFT * series, 1)

    def y(self, value: float) -> float:
        inside = min(max(value, self._low), self._high)
        share = (inside - self._low) / (self._high - self._low)
        return round(_TOP + (1 - share) * (HEIGHT - _TOP - _BOTTOM), 1)


def _has(curve: Curve, rung: str) -> bool:
    return rung in curve.points and math.isfinite(curve.points[rung].value)


def _axis(place: _Place, tick: float, scale: float, ticks: Sequence[float]) -> Markup:
    y = place.y(tick / scale)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    line = Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    text = Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>')
    return line.format(_LEFT, y, WIDTH - _RIGHT, y) + text.format(
        _LEFT - 6, y + 4, f"{tick:.{decimals}f}"
    )


def _label(place: _Place, number: int, rung: Rung, alarmed: bool) -> Markup:
    """The rung's name below its column; neighbours alternate in height so that they fit."""
    name = ("⚠ " if alarmed else "") + visible(rung.label)
    short = name if len(name) <= 16 else name[:15] + "…"
    y = HEIGHT - _BOTTOM + 18 + 15 * (number % 2)
    shape = Markup('<text class="{}" x="{}" y="{}" text-anchor="middle">{}</text>')
    return shape.format("rung alarmed" if alarmed else "rung", place.x(rung.name), y, short)


def _lines(place: _Place, curve: Curve, rungs: Sequence[Rung], series: int) -> list[Markup]:
    """From each rung's parent to the rung; bands only under the first series' trunk."""
    inner = {rung.parent for rung in rungs}
    bands, lines = [], []
    for rung in rungs:
        if not (_has(curve, rung.name) and rung.parent and _has(curve, rung.parent)):
            continue
        before, after = curve.points[rung.parent], curve.points[rung.name]
        x1, x2 = place.x(rung.parent, series), place.x(rung.name, series)
        trunk = rung.name in inner or sum(r.parent == rung.parent for r in rungs) == 1
        ends = (before.low, after.low, after.high, before.high)
        if trunk and series == 0 and all(map(math.isfinite, ends)):
            corners = zip((x1, x2, x2, x1), map(place.y, ends), strict=True)
            shape = Markup('<polygon class="band" points="{}"/>')
            bands.append(shape.format(" ".join(f"{x},{y}" for x, y in corners)))
        kind = f"line series{series}" + ("" if trunk else " branch")
        shape = Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>')
        lines.append(shape.format(kind, x1, place.y(before.value), x2, place.y(after.value)))
    return bands + lines


def _dots(
    place: _Place,
    curve: Curve,
    rungs: Sequence[Rung],
    series: int,
    alarmed: Mapping[str, str],
    scale: float,
) -> list[Markup]:
    found = []
    for rung in rungs:
        if not _has(curve, rung.name):
            continue
        point = curve.points[rung.name]
        x, y = place.x(rung.name, series), place.y(point.value)
        why = visible(alarmed.get(rung.name, ""))
        text = f"{visible(rung.name)}, {curve.name}: {point.value * scale:.1f}"
        parts = [Markup("<g><title>{}</title>").format(f"{text}. {why}" if why else text)]
        bad = " alarmed" if why else ""
        if math.isfinite(point.low) and math.isfinite(point.high):
            shape = Markup('<line class="bar series{}{}" x1="{}" y1="{}" x2="{}" y2="{}"/>')
            parts.append(shape.format(series, bad, x, place.y(point.low), x, place.y(point.high)))
        shape = Markup('<circle class="dot series{}{}" cx="{}" cy="{}" r="{}"/></g>')
        parts.append(shape.format(series, bad, x, y, 4.5 if series == 0 else 3.5))
        found.append(Markup("").join(parts))
    return found
