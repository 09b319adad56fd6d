"""The learning rate of each step."""

from __future__ import annotations

import math

from evalsuite_train.optimiser import Optimisation


def rate(step: int, optimisation: Optimisation) -> float:
    """The learning rate of step ``step`` (the first is 0): linear warm-up, then the way down.

    The cosine is that of Loshchilov & Hutter (arXiv 1608.03983) without restarts, down to
    ``minimum_rate`` of the peak; so is the straight line of ``linear``.
    """
    peak, warmup = optimisation.learning_rate, optimisation.warmup
    if step < warmup:
        return peak * (step + 1) / warmup
    if optimisation.schedule == "constant":
        return peak
    done = min(1.0, (step - warmup) / max(1, optimisation.steps - warmup))
    height = 1 - done if optimisation.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    floor = optimisation.minimum_rate
    return peak * (floor + (1 - floor) * height)
