"""Weights of eight and four bits: made here from a checkpoint's own, or brought by a checkpoint."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from evalsuite.checkpoint.quiet import shared
from evalsuite.errors import BadCheckpoint, BadOption, EngineUnavailable, nearest

GROUP = 32
"""Weights that share a scale and a zero in int4; every usual width is a multiple of it."""


class Scheme(msgspec.Struct, frozen=True):
    """How ``--dtype int8`` or ``--dtype int4`` is carried out.

    Attributes:
        compute: dtype of everything that is not quantised, activations included. The four-bit
            kernel of a processor is fast in bfloat16 only; eight bits are exact enough for float32,
            in which an answer does not depend on the batch that it is computed in.
        description: for the run's manifest and for the keys of its answers.
    """

    name: str
    compute: str
    description: str


SCHEMES = {
    "int8": Scheme("int8", "float32", "int8 weights, one scale a row, float32 activations"),
    "int4": Scheme("int4", "bfloat16", f"int4 weights in groups of {GROUP}, bfloat16 activations"),
}

PACKAGES = {
    "aqlm": ("aqlm",),
    "auto-round": ("auto_round",),
    "awq": ("gptqmodel", "accelerate"),
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "compressed-tensors": ("compressed_tensors",),
    "eetq": ("kernels",),
    "fbgemm_fp8": ("fbgemm_gpu", "accelerate"),
    "gptq": ("gptqmodel", "optimum"),
    "hqq": ("hqq",),
    "quanto": ("optimum.quanto",),
    "quark": ("quark",),
    "spqr": ("spqr_quant", "accelerate"),
    "torchao": ("torchao",),
    "vptq": ("vptq", "accelerate"),
}
"""Method in ``quantization_config`` → modules that transformers reads it with."""

_NEEDS_GPU = frozenset({"aqlm", "eetq", "fbgemm_fp8", "fp8", "fp_quant", "higgs", "spqr", "vptq"})
_INSTALLED_AS = {
    "auto_round": "auto-round",
    "compressed_tensors": "compressed-tensors",
    "fbgemm_gpu": "fbgemm-gpu",
    "optimum.quanto": "optimum-quanto",
    "quark": "amd-quark",
    "spqr_quant": "spqr-quant",
}


def scheme_of(dtype: str) -> Scheme | None:
    """The scheme of a dtype, or None where nothing is quantised."""
    return SCHEMES.get(dtype)


def check_scheme(scheme: Scheme, brought: str | None, device: str) -> None:
    """See that a scheme can be carried out, before any weight is read.

    Args:
        brought: the method that the checkpoint itself is quantised with, or None.

    Raises:
        BadOption: the checkpoint's weights are quantised already.
        EngineUnavailable: torchao is not installed, or the device has no kernel.
    """
    if brought:
        raise BadOption(
            f"the checkpoint's weights are quantised already ({brought})",
            where=f"--dtype {scheme.name}",
            hint="leave --dtype out",
        )
    if not _is_here("torchao"):
        raise EngineUnavailable(
            "the package torchao is not here",
            where=f"--dtype {scheme.name}",
            hint="pip install torchao",
        )
    if scheme.name == "int4" and not device.startswith("cpu"):
        raise EngineUnavailable(
            f"int4 is computed on a processor here, not on {device}",
            where="--dtype int4",
            hint="add --device cpu, or give a GPTQ, AWQ or bitsandbytes checkpoint",
        )


def check_brought(method: str, device: str, where: str) -> None:
    """See that weights quantised with ``method`` can be computed with, before any is read.

    Raises:
        BadCheckpoint: nobody knows such a method; transformers would take the packed weights, or
            what is there of plain ones, for the model.
        EngineUnavailable: it needs a package or a device that is not here; all missing packages are
            named at once.
    """
    known = _known_methods()
    if method not in known:
        near = nearest(method, known)
        raise BadCheckpoint(
            f"config.json says that its weights are quantised with {method!r}, which is unknown",
            where=where,
            hint=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(known)}",
        )
    missing = [name for name in PACKAGES.get(method, ()) if not _is_here(name)]
    if missing:
        names = [_INSTALLED_AS.get(name, name) for name in missing]
        raise EngineUnavailable(
            f"{method} weights need {' and '.join(names)}, which {_are(names)} not here",
            where=where,
            hint=f"pip install {' '.join(names)}",
        )
    if method in _NEEDS_GPU and device.startswith("cpu"):
        raise EngineUnavailable(
            f"{method} weights are computed on a CUDA device only",
            where=where,
            hint="run it where there is one, or evaluate the checkpoint before quantisation",
        )


def quantise(module: Any, scheme: Scheme, where: str) -> None:
    """Quantise the matrices of the layers, in place; embeddings, norms and the head stay.

    The head stays because its error goes into every logit unattenuated, and because it is often the
    embedding's own tensor. int8: symmetric, one scale a row (round to nearest). int4: asymmetric,
    a scale and a zero for each group of :data:`GROUP` in a row, in the packing of PyTorch's
    ``_weight_int4pack_mm_for_cpu``.

    Raises:
        BadCheckpoint: a matrix whose sides the packing does not allow, or nothing to quantise.
    """
    import torch

    head = module.get_output_embeddings()
    chosen = {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, torch.nn.Linear) and part is not head
    }
    if not chosen:
        raise BadCheckpoint(
            f"{type(module).__name__} has no linear layers to quantise",
            where=where,
            hint="evaluate it with --dtype float32 or bfloat16",
        )
    if scheme.name == "int4":
        for name, part in chosen.items():
            rows, columns = part.weight.shape
            if columns % GROUP or rows % 16:
                raise BadCheckpoint(
                    f"int4 needs rows in multiples of 16 and columns of {GROUP};"
                    f" {name} has {rows} × {columns}",
                    where=where,
                    hint="evaluate it with --dtype int8",
                )
    from torchao.quantization import quantize_

    quantize_(module, _config(scheme), filter_fn=lambda part, name: name in chosen)


def _config(scheme: Scheme) -> Any:
    if scheme.name == "int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return Int8WeightOnlyConfig(set_inductor_config=False)
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

    return PrototypeInt4WeightOnlyConfig(group_size=GROUP, set_inductor_config=False)


@shared
def unlogged() -> Callable[[], None]:
    """Keep log lines off the terminal while quantisation packages load.

    transformers imports them wherever they are installed, and they report each kernel for other
    hardware; none of these is used here. bitsandbytes goes on with a line for each matrix that it
    computes with.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)

    def restore() -> None:
        logging.disable(before)
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

    return restore


def _known_methods() -> list[str]:
    """As ``quantization_config`` may name them; one without a name counts as bitsandbytes'."""
    with unlogged():
        from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as MAPPING

    return sorted({name.removesuffix("_4bit").removesuffix("_8bit") for name in MAPPING})


def _is_here(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package around a module
        return False


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
