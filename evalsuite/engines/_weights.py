"""Loading a checkpoint's weights with transformers, and refusing what is not whole."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.quiet import quiet as quiet
from evalsuite.engines._batching import is_out_of_memory
from evalsuite.engines._quantised import (
    check_brought,
    check_scheme,
    quantise,
    scheme_of,
    unlogged,
)
from evalsuite.errors import BadCheckpoint, BadOption, EngineUnavailable, nearest

DTYPES = ("auto", "float32", "bfloat16", "float16", "int8", "int4")


def choose_device(wanted: str) -> str:
    """The device to compute on: ``auto`` is the first CUDA device, else the processor.

    Raises:
        BadOption: no such device name.
        EngineUnavailable: the device is not there.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise BadOption(
            f"no device named {wanted!r}", where="--device", hint="auto, cpu, cuda or cuda:1"
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineUnavailable(
            f"no device {wanted} here",
            hint=f"torch sees {torch.cuda.device_count()} CUDA devices; try --device auto",
        )
    return wanted


def check_dtype(name: str) -> None:
    """Raise :class:`BadOption` unless ``name`` is in :data:`DTYPES`."""
    if name not in DTYPES:
        near = nearest(name, DTYPES)
        hint = (f"did you mean {near!r}? " if near else "") + f"one of {', '.join(DTYPES)}"
        raise BadOption(f"no dtype named {name!r}", where="--dtype", hint=hint)


def check_loadable(checkpoint: Checkpoint, *, dtype: str, device: str) -> None:
    """See what can be seen before any weight is read.

    Raises:
        BadOption: no such dtype, or ``int8`` or ``int4`` of weights that are quantised already.
        BadCheckpoint: a file of weights is missing or truncated.
        EngineUnavailable: a package that the checkpoint's format needs is not installed, or its
            kernels need another device.
    """
    check_dtype(dtype)
    scheme, brought = scheme_of(dtype), checkpoint.quantization
    if scheme:
        check_scheme(scheme, brought, device)
    elif brought:
        check_brought(brought, device, checkpoint.source)
    check_files(checkpoint.path)


def load_model(checkpoint: Checkpoint, *, dtype: str, device: str, trust_remote_code: bool) -> Any:
    """A causal language model in evaluation mode, every weight of it from the checkpoint.

    Weights are read from safetensors, or from ``pytorch_model*.bin`` with ``weights_only``, so
    nothing in a file is executed. What :func:`check_loadable` refuses is not looked at again.

    Args:
        dtype: ``auto`` is float32 on a processor and the checkpoint's own elsewhere; ``int8`` and
            ``int4`` are quantised here.

    Raises:
        BadCheckpoint: a tensor is missing, has another shape than ``config.json`` says, or belongs to
            a layer that ``config.json`` does not have.
        EngineUnavailable: a package that the checkpoint's format needs is not installed.
        MemoryError: or what torch raises in its place.
    """
    import torch

    scheme, brought = scheme_of(dtype), checkpoint.quantization
    if scheme:
        dtype = scheme.compute

    if dtype == "auto" and torch.device(device).type == "cpu":
        dtype = "float32"
    try:
        with unlogged(), quiet():
            from transformers import AutoModelForCausalLM

            model, report = AutoModelForCausalLM.from_pretrained(
                str(checkpoint.path),
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                trust_remote_code=trust_remote_code,
                local_files_only=True,
                weights_only=True,
                ignore_mismatched_sizes=True,  # so that they are reported below, by name
                output_loading_info=True,
                **({"device_map": {"": device}} if brought else {}),
            )
    except ImportError as fault:
        raise EngineUnavailable(
            f"the checkpoint needs a package that is not here: {_first_line(fault)}",
            where=str(checkpoint.path),
            hint="install it, or evaluate the checkpoint in another form",
        ) from None
    except Exception as fault:
        if is_out_of_memory(fault):
            raise
        raise BadCheckpoint(
            f"its {brought + ' ' if brought else ''}weights do not load: {_first_line(fault)}",
            where=str(checkpoint.path),
            hint="compare config.json with the weights, or copy the checkpoint again",
        ) from None
    _check_report(report, model.base_model_prefix, checkpoint.path)
    if brought:
        return model.eval()
    if scheme:
        with unlogged():
            quantise(model, scheme, str(checkpoint.path))
    return model.to(device).eval()


def parameters(module: Any) -> int:
    """Number of a model's weights, tied ones counted once, however few bytes they are packed in."""
    import torch

    if getattr(module.config, "quantization_config", None) is not None:
        plain = copy.deepcopy(module.config)
        del plain.quantization_config
        with torch.device("meta"), quiet():
            module = type(module)(plain)
    return sum(int(weight.numel()) for weight in module.parameters())


def check_files(folder: Path) -> None:
    """Open each weight file's header, so that a damaged or missing one is named.

    Raises:
        BadCheckpoint: one is.
    """
    from safetensors import SafetensorError, safe_open

    for index in sorted(folder.glob("*.index.json")):
        try:
            files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as fault:
            raise BadCheckpoint(
                f"not an index of weights: {_first_line(fault)}", where=str(index)
            ) from None
        for name in sorted(files):
            if not (folder / name).is_file():
                raise BadCheckpoint(
                    "a file of weights is missing",
                    where=str(folder / name),
                    hint=f"{index.name} names it; copy the checkpoint again",
                )
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as fault:
            raise BadCheckpoint(
                f"not a whole safetensors file: {_first_line(fault)}",
                where=str(file),
                hint="copy or save it again",
            ) from None


def _check_report(report: dict[str, Any], prefix: str, folder: Path) -> None:
    """transformers fills missing weights with random numbers and only warns; here that is an error.

    Foreign tensors outside the language model, such as a value head, are left alone.
    """
    missing = sorted(report["missing_keys"])
    shapes = sorted(str(key) for key in report["mismatched_keys"])
    foreign = sorted(
        key
        for key in report["unexpected_keys"]
        if key.startswith(f"{prefix}.") and "inv_freq" not in key
    )
    for tensors, fault in (
        (missing, "are missing"),
        (shapes, "have another shape than config.json says"),
        (foreign, "belong to no layer that config.json describes"),
    ):
        if tensors:
            some = ", ".join(tensors[:3]) + (", …" if len(tensors) > 3 else "")
            raise BadCheckpoint(
                f"{len(tensors)} weights {fault}: {some}",
                where=str(folder),
                hint="save the checkpoint again; an adapter or delta must be merged first",
            )


def _first_line(fault: BaseException) -> str:
    lines = str(fault).strip().splitlines()
    return f"{type(fault).__name__}: {lines[0] if lines else ''}"[:300]
