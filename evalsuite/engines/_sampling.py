"""Choosing the next token: penalty, temperature, top-k, top-p, and a draw that repeats.

The processors and their order are those of transformers' ``generate``.
"""

from __future__ import annotations

from typing import Any

from evalsuite.request import Sampling


def penalise(logits: Any, seen: Any, penalty: float) -> Any:
    """Make tokens that occurred less likely (Keskar et al., "CTRL", arXiv 1909.05858, section 4.1).

    Args:
        logits: (vocabulary,) in float32.
        seen: (vocabulary,) of bool: the tokens of prompt and answer so far.
    """
    import torch

    lowered = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, lowered, logits)


def probabilities(logits: Any, sampling: Sampling) -> Any:
    """What is left after temperature, top-k and top-p: (vocabulary,) of float64, summing to 1.

    Top-p keeps the smallest set of most likely tokens whose probabilities reach it (Holtzman et al.,
    "The curious case of neural text degeneration", arXiv 1904.09751).
    """
    import torch

    logits = logits.double()
    logits = (logits - logits.max()) / sampling.temperature
    if 0 < sampling.top_k < len(logits):
        least = logits.topk(sampling.top_k).values[-1]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(descending=True, stable=True)
        shares = ordered.softmax(-1)
        before = shares.cumsum(-1) - shares
        logits = logits.masked_fill(
            torch.zeros_like(logits, dtype=torch.bool).scatter(0, order, before >= sampling.top_p),
            -torch.inf,
        )
    return logits.softmax(-1)


def draw(probabilities: Any, generator: Any) -> int:
    """One token by inversion of the distribution function.

    One uniform number a token, drawn on the processor, so that a seed means the same on any device
    and the draw does not depend on the row's place in a batch.
    """
    import torch

    uniform = torch.rand((), generator=generator, dtype=torch.float64).to(probabilities.device)
    reached = probabilities.cumsum(-1)
    token = torch.searchsorted(reached, uniform * reached[-1], right=True)
    return int(token.clamp(max=len(probabilities) - 1))
