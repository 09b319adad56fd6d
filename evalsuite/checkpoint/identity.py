"""Which files are a checkpoint, and the sha256 that stands for them, wherever they lie."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from evalsuite.checkpoint.card import CARD

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin")
COMPANIONS = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.py")
"""Configuration, tokenizer, chat template, code."""

_IGNORED = {CARD, "trainer_state.json", "optimizer.safetensors"}


def fingerprint(path: Path) -> str:
    """sha256 over the names and contents of every file that can change an answer."""
    return fingerprint_of(_matching(path, (*WEIGHTS, *COMPANIONS)))


def fingerprint_of(
    files: Iterable[Path], *, without: Mapping[str, Iterable[str]] | None = None
) -> str:
    """sha256 over the names and contents of these files, in the order of their names.

    Args:
        without: file name → keys of its JSON object that do not count, such as where a base lies.
    """
    total = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        if without and file.name in without:
            content = hashlib.sha256(_json_without(file, without[file.name])).hexdigest()
        else:
            content = file_sha256(file)
        total.update(f"{content}  {file.name}\n".encode())
    return total.hexdigest()


def combined(kind: str, parts: Iterable[tuple[str, str]]) -> str:
    """One fingerprint for ``(role, fingerprint)`` of several parts."""
    lines = [f"{kind}\n", *(f"{part}  {role}\n" for role, part in parts)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_sha256(file: Path) -> str:
    """sha256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def companions(path: Path) -> list[Path]:
    """The files of a folder that go with its weights: configuration, tokenizer, template, code."""
    described = ("*.index.json", "adapter_config.json", "delta.json", "merged.json")
    left_out = set(_matching(path, described))
    return [file for file in _matching(path, COMPANIONS) if file not in left_out]


def copy_companions(source: Path, folder: Path, *, card: bool = False) -> None:
    """Copy what goes with the weights of ``source`` into ``folder``; with its card, if asked."""
    extra = [source / CARD] if card and (source / CARD).is_file() else []
    for file in [*companions(source), *extra]:
        shutil.copyfile(file, folder / file.name)


def all_parts(path: Path) -> list[Path]:
    """Every file of a folder that :func:`fingerprint` covers."""
    return _matching(path, (*WEIGHTS, *COMPANIONS))


def _matching(path: Path, patterns: Iterable[str]) -> list[Path]:
    found = {f for pattern in patterns for f in path.glob(pattern) if f.is_file()}
    return sorted(f for f in found if f.name not in _IGNORED)


def _json_without(file: Path, keys: Iterable[str]) -> bytes:
    """The object in canonical form less ``keys``; the plain bytes of what is no JSON object."""
    data = file.read_bytes()
    try:
        known = json.loads(data)
    except (ValueError, RecursionError):
        return data
    if not isinstance(known, dict):
        return data
    left = {key: value for key, value in known.items() if key not in set(keys)}
    return json.dumps(left, sort_keys=True).encode()
