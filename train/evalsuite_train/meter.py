"""How fast a training runs: tokens, floating-point operations, and their share of what is possible."""

from __future__ import annotations

import time
from typing import Any

import torch

SIZE = 1536  # rows and columns of the matrices that the peak is measured with
SECONDS = 0.25  # that the measurement takes at most


def flops_per_token(parameters: int, layers: int, width: int, length: int) -> float:
    """Training operations per token, forward and backward: ``6 N + 12 L (H Q) T``.

    From PaLM (Chowdhery et al. 2022, arXiv 2204.02311, appendix B): ``N`` are the parameters in
    matrix products (an input embedding that is not also the output layer only looks up a row),
    ``H Q`` heads times head size, ``T`` the length of a row. Recomputed activations do not count.
    """
    return 6.0 * parameters + 12.0 * layers * width * length


def model_flops_per_token(model: Any, length: int) -> float:
    """:func:`flops_per_token` of a transformers model, at rows of ``length`` tokens."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    parameters = sum(_size(p) for p in base.parameters())
    rows, head = base.get_input_embeddings(), base.get_output_embeddings()
    if head is not None and head.weight is not rows.weight:
        parameters -= _size(rows.weight)
    config = base.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return flops_per_token(
        parameters, config.num_hidden_layers, config.num_attention_heads * size, length
    )


def _size(parameter: torch.Tensor) -> int:
    """The numbers of a parameter, also of one that ZeRO-3 shared out and left empty here."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def measured_peak(device: torch.device, kind: torch.dtype) -> float:
    """Operations a second of a square matrix product on ``device``, the best of several."""
    left = torch.ones(SIZE, SIZE, device=device, dtype=kind)
    best, started = float("inf"), time.monotonic()
    while time.monotonic() - started < SECONDS:
        before = time.perf_counter()
        left @ left
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - before)
    return float(2.0 * SIZE**3 / best)


class Meter:
    """Tokens and seconds between two rows of the log.

    Args:
        flops: per token.
        peak: operations a second that the devices of this run can do together.
    """

    def __init__(self, flops: float, peak: float) -> None:
        self.flops, self.peak = flops, peak
        self.tokens, self.started = 0, time.perf_counter()

    def add(self, tokens: int) -> None:
        """Count the tokens (learnt or not) of one step."""
        self.tokens += tokens

    def read(self) -> dict[str, float]:
        """Speed since the last reading, which this one ends."""
        now = time.perf_counter()
        seconds = max(now - self.started, 1e-9)
        speed = self.tokens / seconds
        self.tokens, self.started = 0, now
        achieved = speed * self.flops
        return {
            "seconds": round(seconds, 2),
            "tokens_per_second": round(speed, 1),
            "tflops": float(f"{achieved / 1e12:.4g}"),
            "mfu": round(achieved / self.peak, 4),
        }
