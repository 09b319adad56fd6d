"""From ``--engine NAME`` to an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from evalsuite.chat import ChatTemplate
from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._weights import check_dtype
from evalsuite.engines.base import Engine
from evalsuite.errors import BadOption, EngineUnavailable, UnknownName

KNOWN = ("auto", "transformers", "llama_cpp", "replay:FILE")
_PLANNED = ("vllm", "openai")


def open_engine(
    name: str,
    checkpoint: Checkpoint | None,
    *,
    template: ChatTemplate | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_tokens: int | None = None,
    trust_remote_code: bool = False,
    force_template: bool = False,
) -> Engine:
    """Start the engine called ``name``; the other arguments are those of a model's engine.

    Args:
        name: ``auto`` (``llama_cpp`` for a GGUF file, else ``transformers``), one of these two, or
            ``replay:FILE``.
        checkpoint: what is evaluated; ``replay`` does without.

    Raises:
        UnknownName: there is no engine of that name.
        BadOption: a model's engine without a checkpoint, or ``replay`` without a file.
        EngineUnavailable: the engine is not part of this version, or needs what is not here.
        BadCheckpoint: see :class:`evalsuite.engines.transformers.TransformersEngine` and
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
    start: Callable[..., Engine]
    if checkpoint.kind == "gguf":
        from evalsuite.engines.llama_cpp import LlamaCppEngine

        start = LlamaCppEngine
    elif name == "llama_cpp":
        raise BadOption(
            "llama_cpp reads GGUF files only",
            where="--engine llama_cpp",
            hint="leave --engine out, or give --model FILE.gguf",
        )
    else:
        from evalsuite.engines.transformers import TransformersEngine

        start = TransformersEngine
    return start(
        checkpoint,
        template=template,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
        trust_remote_code=trust_remote_code,
        force_template=force_template,
    )


def check_engine(name: str, *, dtype: str = "auto", checkpoint: Checkpoint | None = None) -> str:
    """The engine that ``name`` stands for, checked before anything is loaded: ``auto`` resolved.

    Args:
        checkpoint: where it is known already; a GGUF file has an engine of its own.

    Raises:
        UnknownName: there is no engine of that name.
        BadOption: there is no dtype of that name, or the engine does not read such a checkpoint.
        EngineUnavailable: the engine is not part of this version.
    """
    if name.partition(":")[0] in _PLANNED:
        raise EngineUnavailable(
            f"the engine {name} is not part of this version",
            where="--engine",
            hint=f"there are {', '.join(KNOWN)}",
        )
    if name not in KNOWN:
        raise UnknownName(
            "engine", name, [*KNOWN, *_PLANNED], where="--engine", hint=f"known: {', '.join(KNOWN)}"
        )
    check_dtype(dtype)
    gguf = checkpoint is not None and checkpoint.kind == "gguf"
    if name == "auto":
        return "llama_cpp" if gguf else "transformers"
    if gguf and name == "transformers":
        raise BadOption(
            "a GGUF file is run by llama_cpp", where="--engine", hint="leave --engine out"
        )
    return name
