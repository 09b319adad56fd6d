"""Scores as people read them on a page: fractions as percentages, without the sign."""

from __future__ import annotations

import math

from evalsuite.metrics.metric import Metric
from evalsuite.record import Interval


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
