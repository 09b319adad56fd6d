"""Modules with the names and weights of transformers' own, built without their constructors.

Those would draw random weights first. Imports torch, so it is imported where a model is read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Tensors:
    """The tensors of a checkpoint, taken out one after the other.

    Attributes:
        left: those that nothing has taken yet, by name.
    """

    def __init__(self, tensors: dict[str, Any]) -> None:
        self.left = tensors

    def take(self, name: str, *shape: int) -> Any:
        """The tensor of that name as a parameter.

        Raises:
            KeyError: there is none.
            ValueError: it has another shape.
        """
        tensor = self.left.pop(name)
        if tensor.shape != shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}, not {shape}")
        return torch.nn.Parameter(tensor, requires_grad=False)


class Rotary(nn.Module):
    """Rotary embedding of the plain kind.

    Args:
        width: of one head.
        theta: base of the frequencies.
    """

    def __init__(self, width: int, theta: float) -> None:
        super().__init__()
        steps = torch.arange(0, width, 2, dtype=torch.float) / width
        self._frequencies = 1.0 / (theta**steps)

    def forward(self, x: Any, position_ids: Any) -> tuple[Any, Any]:
        """Cosines and sines (batch, time, width) of positions (batch, time), in the dtype of ``x``."""
        angles = position_ids[..., None].float() * self._frequencies
        angles = torch.cat((angles, angles), -1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


class Skeleton(nn.Module):
    """What is asked of transformers' class, but for ``forward``."""

    config: Any
    generation_config: Any
    model: Any
    lm_head: Any

    @property
    def dtype(self) -> Any:
        """Of all weights."""
        return self.lm_head.weight.dtype

    @property
    def device(self) -> Any:
        """Of all weights."""
        return self.lm_head.weight.device

    def get_input_embeddings(self) -> Any:
        """The embedding, which has a ``weight``."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> Any:
        """The head."""
        return self.lm_head


class Assembly:
    """Puts the tree of modules together, by the names that the weights have.

    Args:
        settings: ``config.json`` as attributes; what :mod:`evalsuite.engines._native_loading` calls plain.
        tensors: the weights, which are taken out.
        theta: base of the rotary embedding.

    Raises:
        KeyError: a tensor is missing.
        ValueError: one has another shape than the settings say.
    """

    def __init__(self, settings: Any, tensors: Tensors, *, theta: float) -> None:
        self._settings, self._tensors, self._theta = settings, tensors, theta
        self._hidden: int = settings.hidden_size
        heads: int = settings.num_attention_heads
        self._width: int = getattr(settings, "head_dim", None) or self._hidden // heads
        self._queries = heads * self._width
        self._shared: int = settings.num_key_value_heads * self._width

    def model(self) -> Skeleton:
        """The whole model."""
        settings, rows = self._settings, self._settings.vocab_size
        layers = [self._layer(f"model.layers.{n}") for n in range(settings.num_hidden_layers)]
        skeleton = Skeleton()
        skeleton.config = settings
        skeleton.model = _module(
            embed_tokens=_module(
                weight=self._tensors.take("model.embed_tokens.weight", rows, self._hidden)
            ),
            layers=nn.ModuleList(layers),
            norm=self._norm("model.norm", self._hidden),
            rotary_emb=Rotary(self._width, self._theta),
        )
        if settings.tie_word_embeddings:
            self._tensors.left.pop("lm_head.weight", None)
            skeleton.lm_head = _linear(skeleton.model.embed_tokens.weight, None)
        else:
            skeleton.lm_head = self._projection("lm_head", rows, self._hidden)
        return skeleton

    def _layer(self, name: str) -> nn.Module:
        return _module(
            self_attn=self._attention(f"{name}.self_attn"),
            mlp=self._feed_forward(f"{name}.mlp"),
            input_layernorm=self._norm(f"{name}.input_layernorm", self._hidden),
            post_attention_layernorm=self._norm(f"{name}.post_attention_layernorm", self._hidden),
        )

    def _attention(self, name: str) -> nn.Module:
        biased = self._settings.model_type == "qwen2"
        module = _module(
            head_dim=self._width,
            scaling=self._width**-0.5,
            q_proj=self._projection(f"{name}.q_proj", self._queries, self._hidden, biased=biased),
            k_proj=self._projection(f"{name}.k_proj", self._shared, self._hidden, biased=biased),
            v_proj=self._projection(f"{name}.v_proj", self._shared, self._hidden, biased=biased),
            o_proj=self._projection(f"{name}.o_proj", self._hidden, self._queries),
        )
        if self._settings.model_type == "qwen3":
            module.q_norm = self._norm(f"{name}.q_norm", self._width)
            module.k_norm = self._norm(f"{name}.k_norm", self._width)
        return module

    def _feed_forward(self, name: str) -> nn.Module:
        inner: int = self._settings.intermediate_size
        return _module(
            gate_proj=self._projection(f"{name}.gate_proj", inner, self._hidden),
            up_proj=self._projection(f"{name}.up_proj", inner, self._hidden),
            down_proj=self._projection(f"{name}.down_proj", self._hidden, inner),
        )

    def _norm(self, name: str, size: int) -> nn.Module:
        weight = self._tensors.take(f"{name}.weight", size)
        return _module(weight=weight, variance_epsilon=self._settings.rms_norm_eps)

    def _projection(self, name: str, out: int, into: int, *, biased: bool = False) -> nn.Linear:
        weight = self._tensors.take(f"{name}.weight", out, into)
        return _linear(weight, self._tensors.take(f"{name}.bias", out) if biased else None)


def _module(**members: Any) -> nn.Module:
    module = nn.Module()
    for name, member in members.items():
        setattr(module, name, member)
    return module


def _linear(weight: Any, bias: Any) -> nn.Linear:
    module = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(module)
    module.out_features, module.in_features = weight.shape
    module.weight, module.bias = weight, bias
    return module
