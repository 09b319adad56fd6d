"""Deltas as they were published in 2023, without a manifest: how to tell one, and how to add it.

Vicuna and Ziya published float16 tensors in a folder that looks like a model. Added in float16 to
the float16 base they give the model, up to rounding; tensors of another shape (the embeddings of a
grown vocabulary) are the model's own and replace the base's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING, Any

from evalsuite.checkpoint.tensors import TensorFolder
from evalsuite.errors import BadCheckpoint

if TYPE_CHECKING:
    import torch

_NORM = re.compile(r"(^|[._])(\w*norm\w*|ln_\w+|ln\d?)\.weight$")
_MOST_NORMS = 64
_NEAR_ZERO = 0.1
"""Half of a model's norms lie far above it (LLaMA's: 0.3 and more), a delta's far below."""
_FAR_FROM_ONE = 0.5
"""A model's last norm is above it: it scales what the head reads."""


def published_tensors(
    bases: TensorFolder, deltas: TensorFolder
) -> Iterator[tuple[str, torch.Tensor]]:
    """The merged tensors, in the delta's own dtype.

    Raises:
        BadCheckpoint: the delta is a model, or lacks tensors of the base: not made from it.
    """
    import torch

    means = _norm_means(deltas)
    if means and median(means.values()) > _FAR_FROM_ONE:
        raise BadCheckpoint(
            "a model, not a delta: the weights of its norms are far from zero",
            where=str(deltas.path),
            hint="the order is BASE DELTA OUT",
        )
    lacking = [n for n in bases.names if n not in deltas and "inv_freq" not in n]
    if lacking:
        raise BadCheckpoint(
            f"{len(lacking)} of the base's tensors are not in the delta: {lacking[0]}",
            where=str(deltas.path),
            hint="give the base that the delta was made from",
        )
    for name in deltas.names:
        delta = deltas.read(name)
        base = bases.read(name) if name in bases and delta.is_floating_point() else None
        if base is not None and base.shape == delta.shape:
            delta = (base.to(torch.float32) + delta.to(torch.float32)).to(delta.dtype)
        yield name, delta


def check_is_no_delta(tensors: TensorFolder, source: str, config: dict[str, Any]) -> None:
    """Refuse a folder whose norms are near zero: its weights are a difference, not a model.

    A norm multiplies what passes through it, so a model's are of the order of one. Families that
    multiply by ``1 + weight`` (Gemma) are told apart by asking their own norm.

    Raises:
        BadCheckpoint: a raw delta.
    """
    means = _norm_means(tensors)
    if not means or median(means.values()) > _NEAR_ZERO or max(means.values()) > _FAR_FROM_ONE:
        return
    if not _zero_silences(config, next(iter(means))):
        return
    raise BadCheckpoint(
        "these are delta weights, not a model: the weights of its norms are near zero",
        where=source,
        hint=f"add them to their base first: evalsuite checkpoint apply-delta BASE {source} OUT",
    )


def _norm_means(tensors: TensorFolder) -> dict[str, float]:
    """Name → mean absolute weight of some of the norms, the last one among them."""
    named = [n for n in tensors.names if _NORM.search(n) and len(tensors.shape(n)) == 1]
    step = max(1, len(named) // _MOST_NORMS)
    read = {name: tensors.mean_magnitude(name) for name in [*named[::step], *named[-1:]]}
    return {name: mean for name, mean in read.items() if mean is not None}


def _zero_silences(config: dict[str, Any], name: str) -> bool:
    """Whether the module that owns the weight ``name`` lets nothing through when it is zero."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if "auto_map" in config or "model_type" not in config:
        return False
    try:
        settings = AutoConfig.for_model(**config)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(settings)
        owner = model.get_submodule(name.rpartition(".")[0]).to_empty(device="cpu").float()
        with torch.no_grad():
            for parameter in owner.parameters():
                parameter.zero_()
            out = owner(torch.linspace(-1, 1, owner.weight.numel()).reshape(1, 1, -1))
    except Exception:  # an unknown architecture: the engine refuses it in its own words
        return False
    return bool((out == 0).all())
