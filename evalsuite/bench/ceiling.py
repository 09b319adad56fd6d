"""What this machine can do at most, measured in the same process as the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

_SECONDS = 0.15
"""How long each candidate is tried."""
_LEAST_BYTES = 1 << 20


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """What nothing on this machine can go beyond.

    Attributes:
        flops: floating-point operations a second of the fastest product of two matrices.
        bytes: bytes a second, read over and over from as much memory as the weights take.
    """

    flops: float
    bytes: float


def ceiling(dtype: str, device: str, weight_bytes: int) -> Ceiling:
    """Measure both.

    Args:
        dtype: that the engine computes in, by torch's name.
        device: by torch's name.
        weight_bytes: of the model. Small weights stay in a processor's caches, and so does what is
            read here: the bandwidth is what these weights could have.
    """
    return Ceiling(flops=matrix_rate(dtype, device), bytes=read_rate(device, weight_bytes))


def matrix_rate(dtype: str, device: str) -> float:
    """Operations a second of the best of several sizes, plain or with packed weights."""
    import torch

    kind = getattr(torch, dtype, torch.float32)
    sizes = (512, 1024, 2048) if device == "cpu" else (2048, 4096, 8192)
    best = 0.0
    with torch.no_grad():
        for size in sizes:
            a = torch.randn(size, size, device=device).to(kind)
            b = torch.randn(size, size, device=device).to(kind)
            for product in _products(a, b):
                best = max(best, 2 * size**3 * _rate(product, device))
    return best


def read_rate(device: str, size: int) -> float:
    """Bytes a second of a sum over ``size`` bytes, the fastest of all passes."""
    import torch

    count = max(size, _LEAST_BYTES) // 4
    data = torch.ones(count, dtype=torch.float32, device=device)
    with torch.no_grad():
        return 4 * count * _rate(data.sum, device)


def _products(a: Any, b: Any) -> list[Callable[[], Any]]:
    """Ways of multiplying ``a`` with a weight ``b`` that engines use."""
    import torch

    found: list[Callable[[], Any]] = [lambda: torch.nn.functional.linear(a, b)]
    mkldnn: Any = torch.backends.mkldnn
    if a.device.type != "cpu" or not mkldnn.is_available():
        return found
    try:  # private operators: the packed weights of the fastest kernels
        packed = torch.ops.mkldnn._reorder_linear_weight(b, a.shape[0])
        torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], "")
    except (RuntimeError, AttributeError, TypeError):
        return found
    return [
        *found,
        lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], ""),
    ]


def _rate(work: Callable[[], Any], device: str) -> float:
    """Calls a second of the fastest call."""
    _timed(work, device)
    best = _timed(work, device)
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        best = min(best, _timed(work, device))
    return 1 / best


def _timed(work: Callable[[], Any], device: str) -> float:
    import torch

    began = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return max(time.perf_counter() - began, 1e-9)
