"""Loading a checkpoint's weights with transformers, and refusing what is not whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.errors import BadCheckpoint, BadOption, EngineUnavailable, nearest

DTYPES = ("auto", "float32", "bfloat16", "float16")


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


def load_model(checkpoint: Checkpoint, *, dtype: str, device: str, trust_remote_code: bool) -> Any:
    """A causal language model in evaluation mode, every weight of it from the checkpoint.

    Weights are read from safetensors, or from ``pytorch_model*.bin`` with ``weights_only``, so
    nothing in a file is executed.

    Args:
        dtype: ``auto`` is float32 on a processor and the checkpoint's own elsewhere.

    Raises:
        BadCheckpoint: a file is truncated, a tensor is missing, has another shape than
            ``config.json`` says, or belongs to a layer that ``config.json`` does not have.
        EngineUnavailable: a package that the checkpoint's format needs is not installed.
    """
    check_dtype(dtype)
    _check_files(checkpoint.path)
    import torch
    from transformers import AutoModelForCausalLM

    if dtype == "auto" and torch.device(device).type == "cpu":
        dtype = "float32"
    try:
        with quiet():
            model, report = AutoModelForCausalLM.from_pretrained(
                str(checkpoint.path),
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                trust_remote_code=trust_remote_code,
                local_files_only=True,
                weights_only=True,
                ignore_mismatched_sizes=True,  # so that they are reported below, by name
                output_loading_info=True,
            )
    except ImportError as fault:
        raise EngineUnavailable(
            f"the checkpoint needs a package that is not here: {_first_line(fault)}",
            where=str(checkpoint.path),
        ) from None
    except Exception as fault:
        raise BadCheckpoint(
            f"its weights do not load: {_first_line(fault)}",
            where=str(checkpoint.path),
            hint="compare config.json with the weights, or copy the checkpoint again",
        ) from None
    _check_report(report, model.base_model_prefix, checkpoint.path)
    return model.to(device).eval()


def _check_files(folder: Path) -> None:
    """Open each weight file's header, so that a damaged or missing one is named."""
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


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' log lines and progress bars off the terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(fault: BaseException) -> str:
    lines = str(fault).strip().splitlines()
    return f"{type(fault).__name__}: {lines[0] if lines else ''}"[:300]
