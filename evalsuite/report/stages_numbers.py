"""Numbers of stages as people read them: scores as percentages, changes in points, p values."""

from __future__ import annotations

import math

from evalsuite.metrics.metric import Metric
from evalsuite.record import Interval
from evalsuite.stages.alarms import ALPHA, fell, gain, rose
from evalsuite.stages.transition import Change
from evalsuite.stats.paired import Difference


def scale(metric: Metric) -> float:
    """From a metric's own unit to the shown scale."""
    return 100.0 if metric.unit == "percent" else 1.0


def number(value: float, metric: Metric) -> str:
    """A score: 71.2, or 1.93 for points; ``–`` for nan."""
    if not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}" if metric.unit == "percent" else f"{value:.2f}"


def limits(interval: Interval, metric: Metric) -> str:
    """``68.0 – 74.1``; empty where it has none."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return ""
    return f"{number(interval.low, metric)} – {number(interval.high, metric)}"


def half(interval: Interval, metric: Metric) -> str:
    """``71.2 ± 3.1``: how far the interval reaches on its longer side."""
    value = number(interval.value, metric)
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return value
    reach = max(interval.high - interval.value, interval.value - interval.low)
    return f"{value} ± {number(reach, metric)}"


def signed(value: float, metric: Metric) -> str:
    """``+3.1`` or ``−3.1``."""
    if not math.isfinite(value):
        return "–"
    text = f"{value * scale(metric):+.1f}" if metric.unit == "percent" else f"{value:+.2f}"
    return text.replace("-", "−") if float(text) else text[1:]


def signed_limits(found: Difference, metric: Metric) -> str:
    """``−1.2 … +4.0``."""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return ""
    return f"{signed(found.low, metric)} … {signed(found.high, metric)}"


def points(value: float) -> str:
    """A change on the shown scale: 31.0."""
    return f"{value:.1f}".replace("-", "−")


def percent(share: float) -> str:
    """64%."""
    return "–" if math.isnan(share) else f"{100 * share:.0f}%"


def p_value(value: float) -> str:
    """``p < 0.001`` or ``p = 0.012``."""
    if math.isnan(value):
        return "p = –"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def mark(change: Change) -> str:
    """``▲▲`` better, for other seeds too; ``▲`` for these checkpoints; so ``▼``; else empty."""
    if not (rose(change) or fell(change)):
        return ""
    arrow = "▲" if gain(change.score, change.metric) > 0 else "▼"
    return arrow * 2 if change.p_holm < ALPHA else arrow
