"""The model a training starts from: a LLaMA of any size, or a checkpoint that already exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM


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
    """The causal language model in ``folder``, in float32 on the CPU, with dropout off."""
    model = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True
    )
    return model.eval()


def count_parameters(model: torch.nn.Module) -> int:
    """The number of parameters, shared ones once."""
    return sum(p.numel() for p in model.parameters())
