"""From ``--engine NAME`` to an engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._weights import check_dtype
from evalsuite.engines.base import Engine
from evalsuite.engines.options import DEFAULT, ModelOptions
from evalsuite.errors import BadOption, UnknownName

if TYPE_CHECKING:
    from evalsuite.engines._vllm_spare import Spare

KNOWN = ("auto", "transformers", "vllm", "llama_cpp", "openai", "replay:FILE")


def open_engine(
    name: str,
    checkpoint: Checkpoint | None,
    options: ModelOptions = DEFAULT,
    *,
    spare: Spare | None = None,
) -> Engine:
    """Start the engine called ``name``.

    Args:
        name: ``auto`` (``llama_cpp`` for a GGUF file, else ``transformers``), one of these two,
            ``vllm``, or ``replay:FILE``. ``openai`` is opened by :mod:`evalsuite.contestant`.
        checkpoint: what is evaluated; ``replay`` does without, and without the options.
        spare: for ``vllm`` only.

    Raises:
        UnknownName: there is no engine of that name.
        BadOption: a model's engine without a checkpoint, or ``replay`` without a file.
        EngineUnavailable: the engine needs what is not here.
        BadCheckpoint: see :class:`evalsuite.engines.transformers.TransformersEngine`,
            :class:`evalsuite.engines.vllm.VllmEngine` and
            :class:`evalsuite.engines.llama_cpp.LlamaCppEngine`.
        DataMissing: see :class:`evalsuite.engines.replay.ReplayEngine`; so ``BadRow``.
    """
    kind, _, file = name.partition(":")
    if kind == "replay":
        if not file:
            raise BadOption("replay needs a file", where="--engine", hint="--engine replay:FILE")
        from evalsuite.engines.replay import ReplayEngine

        return ReplayEngine(Path(file).expanduser())
    check_engine(name)
    if checkpoint is None:
        raise BadOption(f"the engine {name} needs a checkpoint", where="--engine")
    if checkpoint.kind == "gguf":
        from evalsuite.engines.llama_cpp import LlamaCppEngine

        return LlamaCppEngine(checkpoint, options)
    if name == "llama_cpp":
        raise BadOption(
            "llama_cpp reads GGUF files only",
            where="--engine llama_cpp",
            hint="leave --engine out, or give --model FILE.gguf",
        )
    if name == "vllm":
        from evalsuite.engines.vllm import VllmEngine

        return VllmEngine(checkpoint, options, spare=spare)
    from evalsuite.engines.transformers import TransformersEngine

    return TransformersEngine(checkpoint, options)


def check_engine(
    name: str,
    *,
    dtype: str = "auto",
    checkpoint: Checkpoint | None = None,
    options: Mapping[str, str] | None = None,
) -> str:
    """The engine that ``name`` stands for, checked before anything is loaded: ``auto`` resolved.

    Args:
        checkpoint: where it is known already; a GGUF file has an engine of its own.

    Raises:
        UnknownName: there is no engine of that name.
        BadOption: there is no dtype of that name, the engine does not read such a checkpoint, or it
            asks a server.
        EngineUnavailable: the engine is not installed.
    """
    if name not in KNOWN:
        raise UnknownName(
            "engine", name, KNOWN, where="--engine", hint=f"known: {', '.join(KNOWN)}"
        )
    check_dtype(dtype)
    if name == "openai":
        raise BadOption(
            "the engine openai needs a server and no checkpoint",
            where="--engine openai",
            hint="give --base-url http://HOST:PORT/v1",
        )
    if name == "vllm":
        from evalsuite.engines._vllm_installation import installed
        from evalsuite.engines._vllm_options import parse_options

        parse_options(options or {})
        installed()
    elif options:
        raise BadOption(
            f"the engine {name} takes no options",
            where="--engine-option",
            hint="--engine vllm does",
        )
    gguf = checkpoint is not None and checkpoint.kind == "gguf"
    if name == "auto":
        return "llama_cpp" if gguf else "transformers"
    if gguf and name in ("transformers", "vllm"):
        raise BadOption(
            "a GGUF file is run by llama_cpp", where="--engine", hint="leave --engine out"
        )
    return name
