"""Weights of the LLaMA family straight from safetensors, without importing transformers.

That import takes several seconds; reading a small model takes a tenth of one. Only what is plain in
every respect is read here. For anything else, a fault in the files included, :func:`read_native`
says None, and transformers loads the checkpoint or says what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._model import attends_everywhere

_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_NEEDED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "rms_norm_eps",
    "max_position_embeddings",
)
"""Numbers without which transformers' own defaults would count, which differ between architectures."""


class Settings(SimpleNamespace):
    """``config.json``, asked as transformers' configurations are."""

    def get_text_config(self) -> Settings:
        """Itself: there is nothing but text."""
        return self


def read_native(checkpoint: Checkpoint, dtype: str) -> Any | None:
    """A torch module with the names and weights of transformers' one; it has no ``forward``.

    Args:
        dtype: float32 or bfloat16; whatever the weights are stored as, they become this.

    Returns:
        The module, on the processor, for :class:`evalsuite.engines._native.NativeModel`; or None.
    """
    config = checkpoint.config
    if checkpoint.quantization or dtype not in ("float32", "bfloat16") or not _plain(config):
        return None
    import torch

    from evalsuite.engines._native_module import Assembly, Tensors

    settings = Settings(**config)
    try:
        tensors = Tensors(_read(checkpoint.path, getattr(torch, dtype)))
        module = Assembly(settings, tensors, theta=_theta(config) or 1.0).model()
        module.generation_config = Settings(**_generation(checkpoint.path, config))
    except Exception:  # damaged, or not as config.json says
        return None
    return None if tensors.left else module.requires_grad_(False).eval()


def _plain(config: Mapping[str, Any]) -> bool:
    kind = config.get("model_type")
    numbers = all(isinstance(config.get(name), (int, float)) for name in _NEEDED)
    return (
        config.get("architectures") == [_ARCHITECTURES.get(str(kind), "")]
        and "auto_map" not in config
        and numbers
        and config.get("hidden_act") == "silu"
        and not config.get("mlp_bias")
        and not config.get("attention_bias")
        and config.get("pretraining_tp", 1) == 1
        and isinstance(config.get("tie_word_embeddings"), bool)
        and (kind != "qwen3" or isinstance(config.get("head_dim"), int))
        and (kind != "mistral" or "sliding_window" in config)
        and (kind not in ("qwen2", "qwen3") or config.get("use_sliding_window") is False)
        and attends_everywhere(SimpleNamespace(**config))
        and _theta(config) is not None
    )


def _theta(config: Mapping[str, Any]) -> float | None:
    """Base of the rotary embedding, where it is of the plain kind."""
    rotary = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta")}
    if config.get("rope_scaling") or rotary.get("rope_type", "default") != "default":
        return None
    if rotary.keys() - {"rope_type", "rope_theta"}:
        return None
    theta = rotary.get("rope_theta")
    return float(theta) if isinstance(theta, (int, float)) else None


def _read(folder: Path, dtype: Any) -> dict[str, Any]:
    """Every tensor of the safetensors files, copied out of them: a file may be replaced meanwhile."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.is_file():
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    found = {}
    for name in files:
        with safe_open(folder / name, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  (not a mapping)
                if "inv_freq" not in key:
                    found[key] = file.get_tensor(key).to(dtype, copy=True)
    return found


def _generation(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    file = folder / "generation_config.json"
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else config
    return {"eos_token_id": said.get("eos_token_id")}
