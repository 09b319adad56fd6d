"""The forms in which checkpoints come: which one it is, what it consists of, how it is merged.

The content decides, never a flag. A form that is not a plain folder knows how to write one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from evalsuite.checkpoint import adapter, delta, gguf, tencentpretrain, zero
from evalsuite.checkpoint.card import Card, read_card
from evalsuite.checkpoint.identity import (
    all_parts,
    combined,
    companions,
    file_sha256,
    fingerprint,
    fingerprint_of,
)
from evalsuite.checkpoint.manifest import MANIFEST, read_manifest
from evalsuite.checkpoint.plain import check_code, check_plain, has_weights, read_json_object
from evalsuite.checkpoint.published import check_is_no_delta
from evalsuite.checkpoint.source import find_source, is_hub_id
from evalsuite.checkpoint.tensors import TensorFolder
from evalsuite.errors import BadCheckpoint
from evalsuite.files import expanded

Kind = Literal["huggingface", "delta", "adapter", "zero", "tencentpretrain", "gguf"]

_DEEPEST = 8
"""Bases of bases; an adapter that names itself is found out."""


class Part(msgspec.Struct, frozen=True):
    """One of the things that a checkpoint consists of."""

    role: str
    path: Path
    fingerprint: str


class Form(msgspec.Struct, frozen=True):
    """A checkpoint as it lies on the disk.

    Attributes:
        path: the folder or file that ``source`` named.
        parts: what it consists of, its base included.
        config: of the model; empty where only merging tells.
        merge: writes a plain folder into an empty one; None where it is plain already.
    """

    kind: Kind
    path: Path
    source: str
    name: str
    card: Card
    config: dict[str, Any]
    parts: tuple[Part, ...]
    fingerprint: str
    merge: Callable[[Path], None] | None = None


def find_form(
    source: str, *, trust_remote_code: bool = False, base: str | None = None, depth: int = 0
) -> Form:
    """Find, check and fingerprint a checkpoint, its base too; nothing is merged.

    Args:
        base: the base of a delta or an adapter, where it does not lie where they say.

    Raises:
        BadCheckpoint: nothing there, or not whole, or its base is not found.
    """
    if depth > _DEEPEST:
        raise BadCheckpoint(
            "its base has a base, and so on without end", where=source, hint="name one with --base"
        )
    path = find_source(source)
    if path.is_file() or not (path / "config.json").is_file() or not has_weights(path):
        found = _single_file(path, source)
        if found is not None:
            return found
    if not path.is_dir():
        raise BadCheckpoint(
            "not a folder", where=source, hint="give a folder in Hugging Face layout"
        )
    if (path / MANIFEST).is_file():
        return _delta(path, source, trust_remote_code, base, depth)
    if adapter.is_adapter(path):
        return _adapter(path, source, trust_remote_code, base, depth)
    if not has_weights(path):
        step = zero.step_folder(path)
        if step is not None:
            return _zero(step, path, source, trust_remote_code)
    return _plain(path, source, trust_remote_code)


def _plain(path: Path, source: str, trust_remote_code: bool) -> Form:
    config = check_plain(path, source)
    check_code(config, source, trust_remote_code)
    card = read_card(path)
    try:
        tensors = TensorFolder(path, mapped=True)
    except BadCheckpoint:
        pass  # a damaged file: the engine says which, and why
    else:
        zero.check_is_not_empty(tensors, source)
        check_is_no_delta(tensors, source, config)
    content = fingerprint(path)
    return Form(
        kind="huggingface",
        path=path,
        source=source,
        name=card.name or _folder_name(source),
        card=card,
        config=config,
        parts=(Part("weights", path, content),),
        fingerprint=content,
    )


def _single_file(path: Path, source: str) -> Form | None:
    file = gguf.find_gguf(path)
    if file is not None:
        alone = path.is_dir() or len(list(path.parent.glob("*.gguf"))) == 1
        card = read_card(file.parent) if alone else Card()
        whole = [Part("weights", file, file_sha256(file))]
        if beside := gguf.tokenizer_beside(file):
            whole.append(Part("tokenizer", file.parent, fingerprint_of(beside)))
        return Form(
            kind="gguf",
            path=file,
            source=source,
            name=card.name or file.stem,
            card=card,
            config={},
            parts=tuple(whole),
            fingerprint=_of_all("gguf", whole) if beside else whole[0].fingerprint,
        )
    weights = tencentpretrain.find_weights(path)
    if weights is None:
        return None
    beside = companions(weights.parent)
    card = read_card(weights.parent)
    parts = (
        Part("weights", weights, file_sha256(weights)),
        Part("configuration and tokenizer", weights.parent, fingerprint_of(beside)),
    )
    return _merged(
        "tencentpretrain",
        path,
        source,
        card.name or (weights.stem if path.is_file() else _folder_name(source)),
        card,
        parts,
        partial(tencentpretrain.to_huggingface, weights),
    )


def _delta(path: Path, source: str, trust_remote_code: bool, base: str | None, depth: int) -> Form:
    manifest = read_manifest(path)
    check_code(read_json_object(path / "config.json", source), source, trust_remote_code)
    named = _base_source(base, manifest.base, path)
    if named is None:
        raise BadCheckpoint(
            f"these are delta weights, not a model, and their base is not at {manifest.base!r}",
            where=source,
            hint=f"give it with --base, or: evalsuite checkpoint apply-delta BASE {source} OUT",
        )
    found = find_form(named, trust_remote_code=trust_remote_code, depth=depth + 1)
    content = fingerprint_of(all_parts(path), without={MANIFEST: ("base",)})
    card = read_card(path)
    parts = (*_as_base(found), Part("delta", path, content))

    def merge(folder: Path) -> None:
        delta.merge_delta(plain_folder(found), path, folder)

    return _merged("delta", path, source, card.name or _folder_name(source), card, parts, merge)


def _adapter(
    path: Path, source: str, trust_remote_code: bool, base: str | None, depth: int
) -> Form:
    recorded = str(adapter.read_adapter_config(path).get("base_model_name_or_path") or "")
    named = _base_source(base, recorded, path)
    if named is None:
        raise BadCheckpoint(
            f"an adapter, and its base is not at {recorded!r}",
            where=source,
            hint="give it with --base",
        )
    found = find_form(named, trust_remote_code=trust_remote_code, depth=depth + 1)
    content = fingerprint_of(all_parts(path), without={adapter.CONFIG: adapter.BASE_KEYS})
    card = read_card(path)
    parts = (*_as_base(found), Part("adapter", path, content))

    def merge(folder: Path) -> None:
        adapter.merge_adapter(plain_folder(found), path, folder)

    return _merged("adapter", path, source, card.name or _folder_name(source), card, parts, merge)


def _zero(step: Path, path: Path, source: str, trust_remote_code: bool) -> Form:
    settings = zero.settings_folder(step)
    check_code(read_json_object(settings / "config.json", source), source, trust_remote_code)
    card = read_card(settings)
    parts = (
        Part("slices", step, fingerprint_of(zero.state_files(step))),
        Part("configuration and tokenizer", settings, fingerprint_of(companions(settings))),
    )
    name = card.name or f"{step.resolve().parent.name}-{step.name}"
    return _merged("zero", path, source, name, card, parts, partial(zero.merge_zero, step))


def _merged(
    kind: Kind,
    path: Path,
    source: str,
    name: str,
    card: Card,
    parts: tuple[Part, ...],
    merge: Callable[[Path], None],
) -> Form:
    return Form(
        kind=kind,
        path=path,
        source=source,
        name=name,
        card=card,
        config={},
        parts=parts,
        fingerprint=_of_all(kind, parts),
        merge=merge,
    )


def _of_all(kind: Kind, parts: Sequence[Part]) -> str:
    return combined(kind, [(part.role, part.fingerprint) for part in parts])


def plain_folder(form: Form) -> Path:
    """The form as a plain folder: itself, or merged in the cache."""
    from evalsuite.checkpoint.merged import merged_once

    if form.merge is None:
        return form.path
    return merged_once(form.fingerprint, form.source, form.merge)


def _as_base(form: Form) -> tuple[Part, ...]:
    if form.kind == "gguf":
        raise BadCheckpoint("a GGUF file is no base", where=form.source, hint="name another base")
    return tuple(
        Part(f"base {part.role}" if part.role != "weights" else "base", part.path, part.fingerprint)
        for part in form.parts
    )


def _base_source(given: str | None, recorded: str, path: Path) -> str | None:
    """Where the base is: as given, else beside the folder, as a path, or on the hub."""
    if given:
        return given
    if not recorded:
        return None
    for place in (path / recorded, expanded(recorded)):
        if place.exists():
            return str(place)
    return recorded if is_hub_id(recorded) else None


def _folder_name(source: str) -> str:
    return Path(source.split("@")[0]).resolve().name
