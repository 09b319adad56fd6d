"""Next-token loss over learnt tokens only, without ever holding the logits of a whole batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -100
ROWS = 1024  # token positions whose logits exist at one time


class Batch(NamedTuple):
    """One micro-batch.

    Attributes:
        inputs: token ids, shape (rows, length), int64.
        targets: the token after each input, same shape; ``-100`` is not learnt.
        positions: rotary positions, same shape, or None for 0, 1, 2 …; where they start again at
            0, so does attention.
    """

    inputs: Tensor
    targets: Tensor
    positions: Tensor | None = None


class Measured(NamedTuple):
    """The loss of a micro-batch.

    Attributes:
        total: cross entropy in nats, summed over learnt tokens; float32, differentiable.
        correct: learnt tokens that the model would have chosen itself.
        learnt: number of learnt tokens.
    """

    total: Tensor
    correct: Tensor
    learnt: int


def measure(model: Any, batch: Batch, *, fused: bool = True) -> Measured:
    """Run the model on a batch and sum the loss of its learnt tokens.

    Args:
        fused: make the output layer's gradients with the logits, slice by slice. Its weight must
            then be whole, which ZeRO-3 doesn't promise outside the layer's own call.

    Works for every causal model of transformers and for one wrapped by peft: the decoder runs
    alone, then the output layer only where something is learnt.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoded = base.get_decoder()(
        input_ids=batch.inputs, position_ids=batch.positions, use_cache=False
    )
    targets = batch.targets.flatten()
    kept = (targets != IGNORED).nonzero().squeeze(1)
    hidden = decoded.last_hidden_state.flatten(0, 1).index_select(0, kept)
    wanted = targets.index_select(0, kept)
    head = base.get_output_embeddings()
    if fused and type(head) is torch.nn.Linear and head.bias is None and len(kept):
        kind = torch.get_autocast_dtype(hidden.device.type)
        if not torch.is_autocast_enabled(hidden.device.type):
            kind = hidden.dtype
        total, correct = _FusedLoss.apply(hidden, head.weight, wanted, kind)
        return Measured(total, correct, len(kept))
    logits = head(hidden).float()
    total = functional.cross_entropy(logits, wanted, reduction="sum")
    return Measured(total, (logits.argmax(1) == wanted).sum(), len(kept))


class _FusedLoss(torch.autograd.Function):
    """Cross entropy of ``hidden @ weight.T``, its gradients made while the logits are at hand."""

    @staticmethod
    def forward(
        context: Any, hidden: Tensor, weight: Tensor, wanted: Tensor, kind: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        columns = weight.to(kind)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        correct = torch.zeros((), dtype=torch.int64, device=hidden.device)
        to_hidden = torch.empty_like(hidden, dtype=kind)
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if weight.requires_grad else None
        for start in range(0, len(hidden), ROWS):
            part, want = hidden[start : start + ROWS].to(kind), wanted[start : start + ROWS, None]
            logits = (part @ columns.T).float()
            correct += (logits.argmax(1, keepdim=True) == want).sum()
            logs = functional.log_softmax(logits, 1)
            total -= logs.gather(1, want).sum()
            slope = (
                logs.exp_()
                .scatter_add_(1, want, torch.full_like(logs[:, :1], -1.0).expand_as(want))
                .to(kind)
            )
            torch.mm(slope, columns, out=to_hidden[start : start + ROWS])
            if to_weight is not None:
                to_weight += slope.T @ part
        context.save_for_backward(to_hidden, to_weight)
        context.kinds = hidden.dtype, weight.dtype
        context.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(
        context: Any, slope: Tensor, _: Tensor
    ) -> tuple[Tensor, Tensor | None, None, None]:
        to_hidden, to_weight = context.saved_tensors
        kinds = context.kinds
        weight = None if to_weight is None else (to_weight * slope).to(kinds[1])
        return (to_hidden.float() * slope).to(kinds[0]), weight, None, None
