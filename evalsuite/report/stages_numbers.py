"""Numbers of stages as people read them: scores as percentages, changes in points, p values."""

from __future__ import annotations

import math

from evalsuite.gate import Settled, settle
from evalsuite.metrics.metric import Metric
from evalsuite.record import Interval
from evalsuite.report.numbers import number
from evalsuite.stages.alarms import ALPHA, fell, gain, gain_limits, rose
from evalsuite.stages.transition import Change
from evalsuite.stats.paired import Difference


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
    text = f"{value * metric.scale:+.1f}" if metric.unit == "percent" else f"{value:+.2f}"
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
    """``▲▲`` better, for other seeds too; ``▲`` for these checkpoints; so ``▼``; else empty.

    One seed says nothing about others: its p value is about other questions alone, and one mark is
    all that it can earn.
    """
    if not (rose(change) or fell(change)):
        return ""
    arrow = "▲" if gain(change.score, change.metric) > 0 else "▼"
    return arrow * 2 if change.seeds > 1 and change.p_holm < ALPHA else arrow


def lost(change: Change, margin: float) -> Settled:
    """What ``evalsuite gate`` says of the change: a loss of so many points ruled out, found, neither."""
    worst, best = gain_limits(change.score, change.metric)
    return settle(gain(change.score, change.metric), worst, best, margin)
