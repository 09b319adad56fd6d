"""Checks of a plain Hugging Face folder, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evalsuite.errors import BadCheckpoint


def read_json_object(file: Path, where: str) -> dict[str, Any]:
    """The JSON object in ``file``.

    Raises:
        BadCheckpoint: missing, unreadable, no JSON, or no object.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadCheckpoint(
            f"no {file.name}", where=where, hint="give a folder in Hugging Face layout"
        ) from None
    except OSError as fault:
        raise BadCheckpoint(f"{file.name}: {fault.strerror}", where=where) from None
    except (ValueError, RecursionError) as fault:
        raise BadCheckpoint(f"{file.name} is not JSON: {fault}", where=where) from None
    if not isinstance(found, dict):
        raise BadCheckpoint(f"{file.name} is not a JSON object", where=where)
    return found


def has_weights(path: Path) -> bool:
    """Whether the folder holds weights of a whole model, not only those of an adapter."""
    tensors = (f for f in path.glob("*.safetensors") if f.name != "adapter_model.safetensors")
    return any(tensors) or any(path.glob("pytorch_model*.bin"))


def check_plain(path: Path, source: str) -> dict[str, Any]:
    """The configuration of a plain folder, its parts checked.

    Raises:
        BadCheckpoint: no configuration, no weights, an adapter beside them, or an index that
            points elsewhere.
    """
    config = read_json_object(path / "config.json", source)
    if not any(path.glob("*.safetensors")) and not any(path.glob("pytorch_model*.bin")):
        raise BadCheckpoint(
            "no weights",
            where=source,
            hint="expected *.safetensors, or pytorch_model*.bin, which is read with weights_only",
        )
    if (path / "adapter_config.json").is_file():
        raise BadCheckpoint(
            "an adapter lies beside the weights, and it would be left out",
            where=source,
            hint="merge it into the weights first, or remove adapter_config.json",
        )
    check_index(path)
    return config


def check_code(config: dict[str, Any], source: str, trust_remote_code: bool) -> None:
    """Refuse a configuration that names Python code of its own, unless that is wanted."""
    wants_code = "auto_map" in config or "/" in str(config.get("_attn_implementation", ""))
    if wants_code and not trust_remote_code:
        raise BadCheckpoint(
            "the checkpoint wants to run its own Python code",
            where=source,
            hint="read that code, then add --trust-remote-code",
        )


def check_index(path: Path) -> None:
    """Weights named by an index must lie in this very folder, where the fingerprint sees them."""
    for file in sorted(path.glob("*.index.json")):
        for name in dict.fromkeys(read_index(file).values()):
            if Path(name).name != name:
                raise BadCheckpoint(
                    f"names weights outside its folder: {name!r}",
                    where=str(file),
                    hint="move them beside the index and name them plainly",
                )


def read_index(file: Path) -> dict[str, str]:
    """Tensor name → file name, from ``model.safetensors.index.json`` or the like."""
    try:
        names = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(shard) for name, shard in names.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise BadCheckpoint(f"not an index of weights: {fault!r}", where=str(file)) from None


def quantization(config: dict[str, Any]) -> str | None:
    """``gptq``, ``awq``, ``bitsandbytes``, … as ``config.json`` says; None for plain weights."""
    found = config.get("quantization_config")
    if not isinstance(found, dict):
        return None
    if found.get("quant_method"):
        return str(found["quant_method"])
    if found.get("load_in_4bit") or found.get("load_in_8bit"):
        return "bitsandbytes"
    return "unknown"
