"""From summed statistics to a score. Each formula is vectorised over leading axes."""

from __future__ import annotations

import numpy as np

from evalsuite.errors import UnknownName
from evalsuite.metrics.metric import Array, Formula


def mean(total: Array) -> Array:
    """``[sum of values, count]`` → mean; nan for no samples."""
    return _ratio(total[..., 0], total[..., 1])


def precision(total: Array) -> Array:
    """``[true positives, predicted, gold]`` → precision; 1 when nothing was predicted or due."""
    return _ratio(total[..., 0], total[..., 1], empty=np.where(total[..., 2] == 0, 1.0, 0.0))


def recall(total: Array) -> Array:
    """``[true positives, predicted, gold]`` → recall; 1 when nothing was predicted or due."""
    return _ratio(total[..., 0], total[..., 2], empty=np.where(total[..., 1] == 0, 1.0, 0.0))


def f1(total: Array) -> Array:
    """``[true positives, predicted, gold]`` → F1 = 2·tp / (predicted + gold); 1 when both are 0."""
    return _ratio(2 * total[..., 0], total[..., 1] + total[..., 2], empty=1.0)


def _ratio(above: Array, below: Array, empty: Array | float = np.nan) -> Array:
    filled = np.broadcast_to(np.asarray(empty, dtype=np.float64), np.shape(below))
    return np.where(below == 0, filled, above / np.where(below == 0, 1.0, below))


FORMULAS: dict[str, Formula] = {"mean": mean, "precision": precision, "recall": recall, "f1": f1}


def formula(name: str) -> Formula:
    """Look a formula up; raises :class:`UnknownName`."""
    try:
        return FORMULAS[name]
    except KeyError:
        raise UnknownName("formula", name, FORMULAS) from None
