"""The number format of matrix products: named in a recipe, or what the device multiplies fast."""

from __future__ import annotations

from typing import Literal

import msgspec
import torch

Precision = Literal["auto", "bf16", "fp16", "fp32"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def settle(config: msgspec.Struct) -> None:
    """Put bf16 or fp32 in the place of a configuration's ``precision: auto``, by its ``device``.

    A CPU without instructions for bfloat16 (AVX2, say) multiplies it thirty times more slowly than
    float32; where it has them (AVX-512 BF16, AMX), bfloat16 is the faster. The answer stands in the
    configuration, and so in what is recorded of a training and compared when it goes on.
    """
    if config.precision != "auto":  # type: ignore[attr-defined]
        return
    cuda = config.device != "cpu" and torch.cuda.is_available()  # type: ignore[attr-defined]
    fast = torch.cuda.is_bf16_supported() if cuda else _fast_on_the_cpu()
    msgspec.structs.force_setattr(config, "precision", "bf16" if fast else "fp32")


def _fast_on_the_cpu() -> bool:
    """Whether torch hands bfloat16 products to oneDNN here, rather than to its plain loops."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
