"""The pair loss of a reward model."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Mean of −log σ(chosen − rejected) over pairs of scores (pairs,).

    The probability that the chosen reply is preferred, after Bradley and Terry (1952), as in
    Ouyang et al. 2022 (arXiv 2203.02155, equation 1).
    """
    return -logsigmoid(chosen.float() - rejected.float()).mean()
