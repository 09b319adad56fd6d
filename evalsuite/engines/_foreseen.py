"""What a configuration says of a model before its weights are there."""

from __future__ import annotations

from typing import NamedTuple

from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._quantised import scheme_of
from evalsuite.engines._weights import DTYPES


class Foreseen(NamedTuple):
    """What requests are prepared with.

    Attributes:
        dtype: what will be computed in, as torch names it; that of the activations where weights are
            quantised here.
        rows: rows of the embedding.
    """

    dtype: str
    rows: int


def foreseen(checkpoint: Checkpoint, dtype: str, device: str) -> Foreseen | None:
    """What loading will give; None where only the weights can tell.

    Args:
        dtype, device: as the transformers engine takes them, a device chosen.
    """
    config = checkpoint.config
    rows = config.get("vocab_size")
    if checkpoint.quantization or "auto_map" in config or not isinstance(rows, int):
        return None
    scheme = scheme_of(dtype)
    if scheme:
        return Foreseen(scheme.compute, rows)
    if dtype == "auto":
        own = config.get("dtype") or config.get("torch_dtype")
        cpu = device.partition(":")[0] == "cpu"
        dtype = "float32" if cpu else str(own).removeprefix("torch.")
    return Foreseen(dtype, rows) if dtype in DTYPES and dtype != "auto" else None
