"""The clipped losses of PPO (Schulman et al. 2017, arXiv 1707.06347) and estimates of the KL divergence."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from evalsuite_train.ppo.advantages import masked_mean


class PolicyLoss(NamedTuple):
    """The loss, the share of tokens whose ratio was clipped, and the KL to the rollout policy."""

    loss: Tensor
    clipped: Tensor
    kl: Tensor


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip: float,
    tokens: Tensor | None = None,
) -> PolicyLoss:
    """The mean over tokens of max(−A·r, −A·clip(r, 1 ± clip)), r = exp(logprobs − old); all (B, R).

    Args:
        tokens: how many there are, where these rows are one process's share of them.
    """
    difference = torch.where(mask, logprobs - old_logprobs, 0.0)
    ratio = difference.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return PolicyLoss(
        masked_mean(torch.maximum(plain, clipped), mask, tokens),
        masked_mean((clipped > plain).float(), mask, tokens).detach(),
        masked_mean(kl_estimate(-difference), mask, tokens).detach(),
    )


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    clip: float,
    tokens: Tensor | None = None,
) -> Tensor:
    """Half the mean over tokens of the larger squared error, of V or of V clipped to old ± clip."""
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    errors = torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)
    return 0.5 * masked_mean(errors, mask, tokens)


def kl_estimate(log_ratio: Tensor) -> Tensor:
    """The estimate k3 = exp(x) − 1 − x of KL(p‖q), x = log q − log p at tokens sampled from p.

    Never negative and unbiased (Schulman 2020, "Approximating KL divergence"); the penalty in the
    reward uses k1 = −x, whose sum over a reply is the exact log-ratio of the whole reply.
    """
    return torch.expm1(log_ratio) - log_ratio
