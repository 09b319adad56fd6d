"""The model: a LLaMA decoder of about two and a half million parameters."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

PAD_MULTIPLE = 128


def padded_rows(pieces: int) -> int:
    """Round the number of embedding rows up; the rows past `pieces` stay unused."""
    return (pieces + PAD_MULTIPLE - 1) // PAD_MULTIPLE * PAD_MULTIPLE


def make_config(pieces: int) -> LlamaConfig:
    """Return the configuration for a tokenizer with `pieces` pieces."""
    return LlamaConfig(
        vocab_size=padded_rows(pieces),
        hidden_size=192,
        intermediate_size=352,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
        initializer_range=0.03,
        use_cache=True,
    )


def make_model(pieces: int, seed: int) -> LlamaForCausalLM:
    """Return a freshly initialised model, the same for the same seed."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(make_config(pieces))


def count_parameters(model: torch.nn.Module) -> int:
    """Count each shared parameter once."""
    return sum(p.numel() for p in model.parameters())
