"""The model a training starts from: a LLaMA of any size, or a checkpoint that already exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from evalsuite_train.errors import BadRecipe


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The size of a LLaMA (Touvron et al. 2023); the defaults are the tiny ladder's.

    Attributes:
        hidden, layers, heads, key_value_heads, feed_forward, context: as in ``config.json``.
        rotary_base: theta of the rotary embedding.
        tied: whether the output layer is the embedding.
    """

    hidden: int = 192
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 4
    feed_forward: int = 640
    context: int = 1024
    rotary_base: float = 10000.0
    tied: bool = True
    initializer_range: float = 0.03

    def __post_init__(self) -> None:
        sizes = (self.hidden, self.layers, self.heads, self.key_value_heads, self.feed_forward)
        if min(*sizes, self.context) < 1:
            raise ValueError("every size of a shape is at least 1")
        if self.hidden % (2 * self.heads) or self.heads % self.key_value_heads:
            raise ValueError("heads divides hidden into even parts, key_value_heads divides heads")


def new_model(shape: Shape, rows: int, seed: int) -> LlamaForCausalLM:
    """A freshly initialised float32 model with ``rows`` embedding rows, the same for the same seed."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=rows,
            hidden_size=shape.hidden,
            intermediate_size=shape.feed_forward,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_value_heads,
            max_position_embeddings=shape.context,
            rope_parameters={"rope_type": "default", "rope_theta": shape.rotary_base},
            rms_norm_eps=1e-5,
            tie_word_embeddings=shape.tied,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=None,
            initializer_range=shape.initializer_range,
        )
    )


def load_model(folder: Path) -> Any:
    """The causal language model in ``folder``, in float32 on the CPU, with dropout off.

    Raises:
        BadRecipe: damaged, without weights, wanting code of its own, or weights that do not fit its
            configuration: nothing is ever filled up with random numbers in silence.
    """
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            output_loading_info=True,
        )
    except Exception as fault:
        reason = f"{type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else ''}"
        raise BadRecipe(
            f"the checkpoint cannot be loaded: {reason[:300]}",
            where=str(folder),
            hint="copy or save it again",
        ) from None
    missing = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
    if missing:
        raise BadRecipe(
            f"its weights do not fit its config.json: {', '.join(missing[:3])}",
            where=str(folder),
            hint="compare config.json with the weights, or copy the checkpoint again",
        )
    return model.eval()


def count_parameters(model: torch.nn.Module) -> int:
    """The number of parameters, shared ones once."""
    return sum(p.numel() for p in model.parameters())
