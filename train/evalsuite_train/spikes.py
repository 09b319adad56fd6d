"""Does this step's loss or gradient belong to the training, or did it jump?"""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from statistics import median
from typing import Any

WINDOW = 64  # recent steps that say how much is usual
LEVEL = 9  # recent steps that say where the training stands
ENOUGH = 16  # steps before which only NaN and infinity can be told
MAD_TO_SIGMA = 1.4826  # of a normal distribution
LEAST_SIGMA = {"loss": 0.03, "gradient norm": 0.25}  # in log units: less than this is no jump


class SpikeDetector:
    """Robust z-scores of the loss and of the gradient norm against the recent steps.

    Both are taken as logarithms, so that a jump is a factor, whatever the height. The level is the
    median of the last few steps; the spread is the median absolute difference of one step to the
    next, which neither outliers nor a steep descent move. Only jumps upward count. PaLM (arXiv 2204.02311, section 5.1) describes the spikes and the remedy:
    go back to an earlier checkpoint and skip the batches around the spike.

    Args:
        threshold: robust standard deviations that count as a spike; 0 tells NaN and infinity only.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.recent: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in LEAST_SIGMA}

    def judge(self, loss: float, norm: float) -> str | None:
        """What is wrong with a step, or None; a good step is remembered, a bad one is not."""
        values = {"loss": loss, "gradient norm": norm}
        for name, value in values.items():
            if not math.isfinite(value):
                return f"the {name} is {value}"
            score = self.score(name, value)
            if self.threshold and score > self.threshold:
                usual = math.exp(self.level(name))
                return (
                    f"the {name} is {value:.4g}, usually {usual:.4g} (robust z-score {score:.1f})"
                )
        for name, value in values.items():
            self.recent[name].append(_log(value))
        return None

    def score(self, name: str, value: float) -> float:
        """The robust z-score of ``value``; 0 while too few steps are known."""
        recent = self.recent[name]
        if len(recent) < ENOUGH:
            return 0.0
        differences = (abs(after - before) for before, after in pairwise(recent))
        sigma = MAD_TO_SIGMA * median(differences) / math.sqrt(2)  # a difference holds two noises
        return (_log(value) - self.level(name)) / max(sigma, LEAST_SIGMA[name])

    def level(self, name: str) -> float:
        """The logarithm of what is usual now."""
        return median(list(self.recent[name])[-LEVEL:])

    def state(self) -> dict[str, list[float]]:
        """What :meth:`restore` needs to judge the next step just as this detector would."""
        return {name: list(values) for name, values in self.recent.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state of :meth:`state`."""
        for name, values in self.recent.items():
            values.clear()
            values.extend(state[name])


def _log(value: float) -> float:
    return math.log(max(value, 1e-12))
