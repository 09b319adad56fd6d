"""From what vLLM says to an error that says what to do."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence

from evalsuite.errors import (
    BadCheckpoint,
    BadOption,
    EngineFailed,
    EngineUnavailable,
    EvalsuiteError,
)

_MEMORY = (
    "out of memory",
    "not enough memory",
    "allocate memory",
    "less than desired",
    "No available memory",
    "on kv cache allocation is less",
)
_ROOM = ("KV cache is needed", "max seq len", "larger than the maximum number of tokens")
_OLD = ("unexpected keyword argument", "No module named 'vllm.", "cannot import name")
_FOREIGN = (
    "Unsupported CPU attention",
    "Head size",
    "Model architectures",
    "not supported for now",
    "Quantization method",
)


def kind_of(fault: BaseException, options: Iterable[str] = ()) -> str:
    """What sort of trouble an exception of vLLM's is; one of the kinds of :func:`error_of`.

    Args:
        options: names of the options that the user gave to vLLM.
    """
    text = f"{type(fault).__name__}: {fault}"
    if isinstance(fault, MemoryError) or any(sign in text for sign in _MEMORY):
        return "memory"
    if any(sign in text for sign in _ROOM):
        return "room"
    if isinstance(fault, (ImportError, TypeError)) and any(sign in text for sign in _OLD):
        return "version"
    if any(sign in text for sign in _FOREIGN):
        return "foreign"
    if type(fault).__name__ == "ValidationError" and any(options):
        return "option"
    frames = {frame.name for frame in traceback.extract_tb(fault.__traceback__)}
    return "weights" if "load_weights" in frames else "other"


def first_line(fault: BaseException) -> str:
    """The fault in one line; of pydantic's several, the field and what is wrong with it."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    if type(fault).__name__ == "ValidationError":
        lines = [" ".join(lines[1:3])]
    return f"{type(fault).__name__}: {lines[0] if lines else ''}"[:400]


def error_of(kind: str, message: str, *, source: str, log: str, loaded: bool) -> EvalsuiteError:
    """The error to raise for trouble of a kind.

    Args:
        source: the checkpoint, as the user named it.
        log: what vLLM said, in a file.
        loaded: whether the checkpoint had been loaded.
    """
    seen = f"vLLM's output is in {log}"
    match kind:
        case "option":
            hint = f"EngineArgs of vLLM lists them; {seen}"
            return BadOption(message, where="--engine-option", hint=hint)
        case "weights":
            hint = f"compare config.json with the weights, or copy the checkpoint again; {seen}"
            return BadCheckpoint(f"vLLM does not load it: {message}", where=source, hint=hint)
        case "foreign":
            hint = f"--engine transformers runs it; {seen}"
            return EngineUnavailable(f"vLLM does not run it: {message}", where=source, hint=hint)
        case "version":
            hint = f"install the version that constraints.txt names; {seen}"
            return EngineUnavailable(f"another vLLM than this engine knows: {message}", hint=hint)
        case "room":
            hint = f"--engine-option max_model_len=N with a smaller context, or gpu_memory_utilization=0.95; {seen}"
            return EngineUnavailable(f"no room for the context: {message}", where=source, hint=hint)
    if kind == "memory":
        hint = (
            "end what else uses the device, or try --engine-option gpu_memory_utilization=0.5,"
            f" --batch-tokens 1024 or --dtype bfloat16; {seen}"
        )
    else:
        hint = seen
    if loaded:
        kept = "what was finished is kept; the same command goes on from there"
        return EngineFailed(f"vLLM broke: {message}", where=source, hint=f"{kept}; {hint}")
    return EngineUnavailable(f"vLLM does not start: {message}", where=source, hint=hint)


def last_words(lines: Sequence[str]) -> str:
    """The last line of a log that looks like an error, or the last one."""
    spoken = [line.strip() for line in lines if line.strip()]
    return next(
        (line for line in reversed(spoken) if "Error" in line), spoken[-1] if spoken else ""
    )
