"""Matrix products with weights that stay: prepared once for the processor's own kernels, where it has them."""

from __future__ import annotations

from typing import Any

_ROWS = 512
"""Rows that the prepared layout is chosen for; it serves any number."""


class Linear:
    """``x @ weight.T + bias`` for a float32 or bfloat16 weight on a processor.

    oneDNN's kernels want weights in a blocked layout, and torch's ``linear`` lays them out anew in
    every call. Here it is done once; torch offers that in operators of its own (``torch.ops.mkldnn``)
    only, so where they are missing, or fail, plain ``linear`` serves.

    Args:
        weight: (out, in); not kept where a prepared copy stands for it.
        bias: (out,) or None.
    """

    def __init__(self, weight: Any, bias: Any = None) -> None:
        self._weight, self._bias = weight.contiguous(), bias
        self._packed = pack(self._weight)
        if self._packed is not None:
            self._weight = None

    def __call__(self, x: Any) -> Any:
        """(…, in) → (…, out)."""
        import torch

        if self._packed is None:
            return torch.nn.functional.linear(x, self._weight, self._bias)
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")


def pack(weight: Any) -> Any | None:
    """``weight`` in oneDNN's layout; None where that cannot be had."""
    import torch

    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.bfloat16):
        return None
    if weight.dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        probe = torch.ones(1, weight.shape[1], dtype=weight.dtype)
        torch.ops.mkldnn._linear_pointwise(probe, packed, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return None
    return packed
