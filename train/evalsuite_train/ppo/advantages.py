"""Advantages and what is done to them before they are used; all tensors (rows, actions)."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
    """The mean of ``values`` where ``mask`` is true: over tokens, so padding does not dilute it.

    Args:
        tokens: divide by so many instead; the results of several shares then sum up to their mean.
    """
    return (values * mask).sum() / (mask.sum() if tokens is None else tokens)


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Values with variance 1 and mean 0 over the masked places, 0 elsewhere.

    Args:
        shift_mean: False keeps the mean, as for rewards, whose sign means something.
    """
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    return (whitened if shift_mean else whitened + mean) * mask


def generalised_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lambda_: float
) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, arXiv 1506.02438, equation 16).

    A_t = δ_t + γλ A_{t+1} with δ_t = r_t + γ V_{t+1} − V_t; after a row's last action there is
    nothing more to come. Each row's actions stand at its left.
    """
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    value_after = torch.zeros_like(following)
    for step in reversed(range(rewards.shape[1])):
        here = mask[:, step].to(rewards.dtype)
        delta = rewards[:, step] + gamma * value_after - values[:, step]
        following = (delta + gamma * lambda_ * following) * here
        value_after = values[:, step] * here
        advantages[:, step] = following
    return advantages
