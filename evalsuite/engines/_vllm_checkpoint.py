"""What the vLLM engine reads off a checkpoint itself, without loading it."""

from __future__ import annotations

import math

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.tensors import TensorFolder
from evalsuite.engines._tokens import Tokens
from evalsuite.engines._weights import DTYPES, check_dtype
from evalsuite.errors import BadOption


def choose_dtype(wanted: str, checkpoint: Checkpoint, *, cpu: bool) -> str:
    """What to compute in; ``auto`` is left to vLLM where the weights are quantised.

    Raises:
        BadOption: no such dtype, or one that is quantised here.
    """
    check_dtype(wanted)
    if wanted in ("int8", "int4"):
        raise BadOption(
            "vLLM takes checkpoints that are quantised already",
            where=f"--dtype {wanted}",
            hint="give such a checkpoint, or --engine transformers",
        )
    if wanted != "auto" or checkpoint.quantization:
        return wanted
    own = checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype")
    return "float32" if cpu or own not in DTYPES else str(own)


def embedding_rows(checkpoint: Checkpoint, tokens: Tokens) -> int:
    """Rows of the embedding, as the configuration says."""
    text = checkpoint.config.get("text_config")
    for config in (checkpoint.config, text if isinstance(text, dict) else {}):
        if isinstance(config.get("vocab_size"), int):
            return int(config["vocab_size"])
    return tokens.size


def parameters(checkpoint: Checkpoint) -> int | None:
    """Number of weights, from the headers of their files; unknown where they are packed."""
    if checkpoint.quantization or not list(checkpoint.path.glob("*.safetensors")):
        return None
    weights = TensorFolder(checkpoint.path)
    tied = checkpoint.config.get("tie_word_embeddings") is True
    return sum(
        math.prod(weights.shape(name))
        for name in weights.names
        if not name.endswith("inv_freq") and not (tied and name == "lm_head.weight")
    )
