"""What is evaluated: a folder of weights, where it stands in its training, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.errors import BadCheckpoint, nearest

CARD = "evalsuite.json"
"""Optional file in the folder, written by the training: name, family, stage, step, parent,
chat_template. The one thing that ``train/`` and ``evalsuite/`` share."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_PARTS = (
    "*.safetensors",
    "pytorch_model*.bin",
    "adapter_model.bin",
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
    "*.tiktoken",
    "*.py",
)
_IGNORED = {CARD, "trainer_state.json", "optimizer.safetensors"}


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``evalsuite.json``: what a training says about the checkpoint it wrote.

    Attributes:
        stage: ``pt``, ``sft``, ``rm``, ``ppo``, … in the field's own words.
        step: optimiser steps of that stage.
        parent: the name of the checkpoint it was trained from.
        chat_template: a built-in template's name, if the folder holds none itself.
    """

    name: str = ""
    family: str = ""
    stage: str = ""
    step: int | None = None
    parent: str | None = None
    chat_template: str | None = None


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint on this disk.

    Attributes:
        path: the folder, in Hugging Face layout.
        source: as the user named it: a path, or ``org/name@revision``.
        fingerprint: sha256 over weights, adapter, tokenizer, chat template and configuration.
    """

    path: Path
    source: str
    name: str
    fingerprint: str
    card: Card
    config: dict[str, Any]

    @property
    def context(self) -> int | None:
        """How many tokens fit, prompt and answer together; None where the configuration is silent."""
        for key in ("max_position_embeddings", "n_positions", "n_ctx", "seq_length"):
            value = self.config.get(key)
            if isinstance(value, int) and value > 0:
                return value
        return None


def open_checkpoint(source: str, *, trust_remote_code: bool = False) -> Checkpoint:
    """Find, check and fingerprint a checkpoint.

    Args:
        source: a folder, or a hub id ``org/name`` with an optional ``@revision``.
        trust_remote_code: allow a configuration that names its own Python code.

    Raises:
        BadCheckpoint: nothing there, no configuration, or only weights in an unsafe format.
    """
    path = Path(source).expanduser()
    if not path.exists():
        if (
            source.startswith((".", "/", "~"))
            or not _HUB_ID.fullmatch(source)
            or path.parent.is_dir()
        ):
            raise _missing(source, path)
        path = _from_hub(source)
    config = _config(path, source)
    wants_code = "auto_map" in config or "/" in str(config.get("_attn_implementation", ""))
    if wants_code and not trust_remote_code:
        raise BadCheckpoint(
            "the checkpoint wants to run its own Python code",
            where=source,
            hint="read that code, then add --trust-remote-code",
        )
    card = read_card(path)
    return Checkpoint(
        path=path,
        source=source,
        name=card.name or Path(source.split("@")[0]).resolve().name,
        fingerprint=fingerprint(path),
        card=card,
        config=config,
    )


def read_card(path: Path) -> Card:
    """The folder's ``evalsuite.json``, or an empty card; unknown keys are refused."""
    file = path / CARD
    if not file.is_file():
        return Card()
    try:
        return msgspec.json.decode(file.read_bytes(), type=Card)
    except msgspec.DecodeError as fault:
        raise BadCheckpoint(
            str(fault), where=str(file), hint=f"known keys: {', '.join(Card.__struct_fields__)}"
        ) from None


def fingerprint(path: Path) -> str:
    """sha256 over the names and contents of every file that can change an answer."""
    found = {f for pattern in _PARTS for f in path.glob(pattern) if f.is_file()}
    files = sorted(f for f in found if f.name not in _IGNORED)
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{content}  {file.name}\n".encode())
    return total.hexdigest()


def _config(path: Path, source: str) -> dict[str, Any]:
    if not path.is_dir():
        raise BadCheckpoint(
            "not a folder", where=source, hint="give a folder in Hugging Face layout"
        )
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadCheckpoint(
            "no config.json", where=source, hint="give a folder in Hugging Face layout"
        ) from None
    except OSError as fault:
        raise BadCheckpoint(f"config.json: {fault.strerror}", where=source) from None
    except (ValueError, RecursionError) as fault:
        raise BadCheckpoint(f"config.json is not JSON: {fault}", where=source) from None
    if not isinstance(config, dict):
        raise BadCheckpoint("config.json is not a JSON object", where=source)
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
    _check_index(path)
    return config


def _check_index(path: Path) -> None:
    """Weights named by an index must lie in this very folder, where the fingerprint sees them."""
    for file in sorted(path.glob("*.index.json")):
        try:
            names = list(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
            raise BadCheckpoint(f"not an index of weights: {fault!r}", where=str(file)) from None
        for name in dict.fromkeys(map(str, names)):
            if Path(name).name != name:
                raise BadCheckpoint(
                    f"names weights outside its folder: {name!r}",
                    where=str(file),
                    hint="move them beside the index and name them plainly",
                )


def _missing(source: str, path: Path) -> BadCheckpoint:
    siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    near = nearest(path.name, siblings)
    hint = f"did you mean {str(path.parent / near)!r}?" if near else "check the path, or org/name"
    return BadCheckpoint("no such checkpoint", where=source, hint=hint)


def _from_hub(source: str) -> Path:
    name, _, revision = source.partition("@")
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(name, revision=revision or None, allow_patterns=list(_PARTS))
    except Exception as fault:
        reason = f"{type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else ''}"
        raise BadCheckpoint(
            f"no such folder, and the hub does not give it: {reason}",
            where=source,
            hint="check the path or the hub id, and HF_TOKEN for private ones",
        ) from None
    return Path(folder)
