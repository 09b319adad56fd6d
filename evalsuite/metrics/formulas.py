"""From summed statistics to a score. Each formula is vectorised over leading axes."""

from __future__ import annotations

import math
import re

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


def bleu(total: Array) -> Array:
    """``[hypothesis length, reference length, 4 × matches, 4 × n-grams]`` → corpus BLEU, 0..100.

    Papineni et al. 2002 with the exponential smoothing of mteval-v13a, over all four orders:
    ``sacrebleu.BLEU(smooth_method="exp", effective_order=False)``.
    """
    length, due = total[..., 0], total[..., 1]
    matches, ngrams = total[..., 2:6], total[..., 6:10]
    # The k-th order without a match counts as if it had 2^-k of one.
    smoothed = np.where(matches == 0, 0.5 ** np.cumsum(matches == 0, axis=-1), matches)
    log_precision = np.log(_ratio(100.0 * smoothed, ngrams, empty=1.0)).mean(axis=-1)
    brevity = np.minimum(0.0, 1.0 - _ratio(due, length, empty=1.0))
    scored = np.any(matches > 0, axis=-1) & np.all(ngrams > 0, axis=-1)
    return np.where(scored, np.exp(log_precision + brevity), 0.0)


def chrf(total: Array) -> Array:
    """``6 × [hypothesis n-grams, reference n-grams, matches]`` → chrF2, 0..100.

    Popović 2015 with β = 2, precision and recall averaged over the character orders that both sides
    have: ``sacrebleu.CHRF()``.
    """
    orders = total.reshape(*total.shape[:-1], -1, 3)
    hypothesis, reference, matches = orders[..., 0], orders[..., 1], orders[..., 2]
    used = (hypothesis > 0) & (reference > 0)
    count = used.sum(axis=-1)
    share = np.where(used, _ratio(matches, hypothesis, empty=0.0), 0.0).sum(axis=-1)
    found = np.where(used, _ratio(matches, reference, empty=0.0), 0.0).sum(axis=-1)
    mean_precision, mean_recall = _ratio(share, count, empty=0.0), _ratio(found, count, empty=0.0)
    above = 100.0 * 5.0 * mean_precision * mean_recall
    return _ratio(above, 4.0 * mean_precision + mean_recall, empty=0.0)


def ter(total: Array) -> Array:
    """``[edits, reference length]`` → translation edit rate in percent; it can exceed 100.

    Snover et al. 2006: ``sacrebleu.TER``. 100 for text where none was due, 0 for none.
    """
    return 100.0 * _ratio(total[..., 0], total[..., 1], empty=np.where(total[..., 0] > 0, 1.0, 0.0))


def pass_at(k: int) -> Formula:
    """``[passed, answers]`` of one problem → the chance that one of k answers passes, unbiased.

    1 - C(n - c, k) / C(n, k) for c of n (Chen et al. 2021, eq. 1), in exact integers; of fewer than
    k answers, all are taken.
    """

    def one(passed: float, answers: float) -> float:
        n, c = round(answers), round(passed)
        drawn = min(k, n)
        return 1.0 - math.comb(n - c, drawn) / math.comb(n, drawn) if n else math.nan

    each = np.vectorize(one, otypes=[np.float64])
    return lambda total: np.asarray(each(total[..., 0], total[..., 1]), dtype=np.float64)


def _ratio(above: Array, below: Array, empty: Array | float = np.nan) -> Array:
    filled = np.broadcast_to(np.asarray(empty, dtype=np.float64), np.shape(below))
    return np.where(below == 0, filled, above / np.where(below == 0, 1.0, below))


FORMULAS: dict[str, Formula] = {
    "mean": mean,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "bleu": bleu,
    "chrf": chrf,
    "ter": ter,
}


def formula(name: str) -> Formula:
    """Look a formula up, ``pass@k`` for any k; raises :class:`UnknownName`."""
    if found := re.fullmatch(r"pass@([1-9]\d{0,4})", name):
        return pass_at(int(found[1]))
    try:
        return FORMULAS[name]
    except KeyError:
        raise UnknownName("formula", name, FORMULAS) from None
