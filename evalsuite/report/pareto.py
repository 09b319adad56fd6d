"""Quality, speed and memory together: which configurations no other one beats in all three."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
from markupsafe import Markup

from evalsuite.measurements import Bench, Configuration, Quantity, Workload, measured
from evalsuite.record import Interval, TaskPart
from evalsuite.report.board import Column, Measured, Point
from evalsuite.report.chart import nice_ticks
from evalsuite.report.visible import visible
from evalsuite.store import Run

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 24, 18, 40
_SMALLEST, _LARGEST = 4.0, 11.0
_NAME = 40
_LINE = 15

_PREFERRED = "mixed"
"""The workload whose speed is taken, where several were measured."""

_Key = tuple[str, str, str]


def protocol_of(part: TaskPart) -> str:
    """Equal for parts whose scores mean the same."""
    data = sorted(part.data.sha256.items())
    return repr((part.version, part.subset, part.variant, part.num_fewshot, data))


def measured_points(
    columns: Sequence[tuple[Column, str]], finished: Sequence[Run], benches: Sequence[Bench]
) -> tuple[tuple[Measured, ...], tuple[tuple[Point, ...], ...]]:
    """Join finished runs with the newest measurement of the same weights, engine and dtype.

    Args:
        columns: with their protocols.
        finished: the newest first.
        benches: the oldest first.

    Returns:
        The configurations, and for each column their points.
    """
    if not benches:
        return (), tuple(() for _ in columns)
    found: dict[_Key, tuple[Measured, list[Run]]] = {}
    groups: dict[tuple[str, Workload], int] = {}
    for run in finished:
        known = [pair for pair in measured(run, benches) if _speed(*pair) is not None]
        if not known:
            continue
        entry = _entry(*known[-1], groups)
        key = (entry.bench_id, entry.name, run.manifest.checkpoint.chat_template)
        found.setdefault(key, (entry, []))[1].append(run)
    entries = [entry for entry, _ in found.values()]
    points = [
        _with_front(
            [
                Point(measured=number, score=score)
                for number, (_, runs) in enumerate(found.values())
                if (score := _score(column, protocol, runs)) is not None
            ],
            entries,
            column,
        )
        for column, protocol in columns
    ]
    return tuple(entries), tuple(points)


def _speed(bench: Bench, configuration: Configuration) -> tuple[Workload, Quantity] | None:
    for workload in sorted(bench.workloads, key=lambda w: w.name != _PREFERRED):
        found = configuration.find(workload.name, "tokens_per_second")
        if found is not None and _peak(configuration) is not None:
            return workload, found
    return None


def _peak(configuration: Configuration) -> float | None:
    found = configuration.find("", "device_peak") or configuration.find("", "peak")
    return None if found is None else found.value


def _entry(
    bench: Bench, configuration: Configuration, groups: dict[tuple[str, Workload], int]
) -> Measured:
    chosen, memory = _speed(bench, configuration), _peak(configuration)
    assert chosen is not None
    assert memory is not None
    workload, speed = chosen
    weights = configuration.find("", "weights")
    dtype = str(configuration.engine.get("dtype", ""))
    label = configuration.label
    lengths = f"{workload.prompt_tokens}+{workload.answer_tokens}" if workload.prompt_tokens else ""
    return Measured(
        name=label if not dtype or dtype in label else f"{label} {dtype}",
        bench_id=bench.bench_id,
        workload=" ".join(filter(None, (workload.name, lengths, f"× {workload.requests}"))),
        speed=Interval(speed.value, speed.low, speed.high, len(speed.rounds)),
        memory=memory,
        weights=None if weights is None else weights.value,
        hardware=bench.hardware.signature,
        group=groups.setdefault((bench.hardware.signature, workload), len(groups)),
    )


def _score(column: Column, protocol: str, runs: Sequence[Run]) -> Interval | None:
    """Of the run that asked the most samples."""
    found: list[tuple[int, Interval]] = []
    for run in runs:
        part = next((p for p in run.manifest.tasks if p.name == column.task), None)
        result = run.manifest.results.get(column.task)
        if part is None or result is None or column.metric is None:
            continue
        if protocol_of(part) != protocol or column.metric not in part.metrics:
            continue
        score = result.metrics.get(column.metric.name)
        if score is not None and math.isfinite(score.value):
            found.append((result.samples, score))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _with_front(
    points: Sequence[Point], entries: Sequence[Measured], column: Column
) -> tuple[Point, ...]:
    better = column.metric is None or column.metric.higher_is_better

    def goods(point: Point) -> tuple[float, float, float]:
        entry = entries[point.measured]
        return (
            point.score.value if better else -point.score.value,
            entry.speed.value,
            -entry.memory,
        )

    def beaten(point: Point) -> bool:
        mine, group = goods(point), entries[point.measured].group
        return any(
            entries[other.measured].group == group and dominates(goods(other), mine)
            for other in points
        )

    return tuple(msgspec.structs.replace(p, front=not beaten(p)) for p in points)


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether ``one`` is nowhere worse and somewhere better; more is better."""
    return all(a >= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def pareto_chart(
    points: Sequence[Point],
    entries: Sequence[Measured],
    title: str,
    scale: float,
    memory: Callable[[float], str],
) -> Markup:
    """An ``<svg>``: speed to the right, score upwards, area for memory; the front is filled.

    Args:
        title: read aloud instead of the picture.
        scale: from the scores to the numbers on the axis (100 for fractions).
        memory: how bytes are written.
    """
    if not points:
        return Markup("")
    speeds = [entries[p.measured].speed for p in points]
    across = nice_ticks(*_range(speeds))
    up = nice_ticks(*(limit * scale for limit in _range([p.score for p in points])))
    place = _Place(across[0], across[-1], up[0] / scale, up[-1] / scale)
    most = max(entries[p.measured].memory for p in points)
    parts = [_across(place, tick) for tick in across]
    parts += [_upwards(place, tick, tick / scale) for tick in up]
    for point in sorted(points, key=lambda p: -entries[p.measured].memory):
        parts += _dot(place, point, entries[point.measured], most, scale, memory)
    shape = Markup(
        '<svg class="chart" role="img" viewBox="0 0 {} {}" width="100%" aria-label="{}">{}</svg>'
    )
    return shape.format(_WIDTH, _HEIGHT, visible(title), Markup("").join(parts))


class _Place:
    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self._x = (left, max(right - left, 1e-12))
        self._y = (low, max(high - low, 1e-12))
        self._taken: list[float] = []

    def x(self, value: float) -> float:
        start, span = self._x
        return round(_LEFT + (value - start) / span * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        start, span = self._y
        return round(_TOP + (1 - (value - start) / span) * (_HEIGHT - _TOP - _BOTTOM), 1)

    def free(self, wanted: float) -> float:
        """The height nearest below ``wanted`` at which no name stands yet."""
        y = max(wanted, 12.0)
        while any(abs(y - other) < _LINE for other in self._taken):
            y += _LINE
        self._taken.append(y)
        return round(y, 1)


def _range(intervals: Sequence[Interval]) -> tuple[float, float]:
    finite = [x for i in intervals for x in (i.value, i.low, i.high) if math.isfinite(x)]
    return min(finite), max(finite)


def _across(place: _Place, tick: float) -> Markup:
    line = Markup('<line class="grid" x1="{0}" y1="{1}" x2="{0}" y2="{2}"/>')
    text = Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>')
    x, low = place.x(tick), _HEIGHT - _BOTTOM
    return line.format(x, _TOP, low) + text.format(x, low + 18, f"{tick:,.6g}")


def _upwards(place: _Place, tick: float, value: float) -> Markup:
    line = Markup('<line class="grid" x1="{1}" y1="{0}" x2="{2}" y2="{0}"/>')
    text = Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>')
    y = place.y(value)
    return line.format(y, _LEFT, _WIDTH - _RIGHT) + text.format(_LEFT - 6, y + 4, f"{tick:.6g}")


def _dot(
    place: _Place,
    point: Point,
    entry: Measured,
    most: float,
    scale: float,
    memory: Callable[[float], str],
) -> list[Markup]:
    x, y = place.x(entry.speed.value), place.y(point.score.value)
    radius = round(max(_SMALLEST, _LARGEST * math.sqrt(entry.memory / most)), 1)
    name = visible(entry.name)
    says = f"{name}: {point.score.value * scale:.1f}, {entry.speed.value:,.0f} tokens/s, {memory(entry.memory)}"
    line = Markup('<line class="range" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    parts = [Markup("<g><title>{}</title>").format(says)]
    if math.isfinite(entry.speed.low) and math.isfinite(entry.speed.high):
        parts.append(line.format(place.x(entry.speed.low), y, place.x(entry.speed.high), y))
    if math.isfinite(point.score.low) and math.isfinite(point.score.high):
        parts.append(line.format(x, place.y(point.score.low), x, place.y(point.score.high)))
    circle = Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>')
    parts.append(circle.format("dot" if point.front else "dot own", x, y, radius))
    short = name if len(name) <= _NAME else name[: _NAME - 1] + "…"
    at, anchor = (x + radius + 5, "start") if x < _WIDTH * 0.6 else (x - radius - 5, "end")
    text = Markup('<text class="name" x="{}" y="{}" text-anchor="{}">{}</text></g>')
    parts.append(text.format(round(at, 1), place.free(y - radius), anchor, short))
    return parts
