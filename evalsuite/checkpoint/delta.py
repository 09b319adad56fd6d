"""Delta weights: a checkpoint published as its difference to a base, and exact when put together.

Both ways go tensor by tensor: a few tensors are in memory, never a model. ``delta.json`` holds the
sha256 of every tensor before and after, so a wrong base is noticed at its first tensor.

A difference in 16 bits rounds, and base + difference is then not the target any more. So each
tensor is tried when the delta is made, and stored in the narrowest form that gives back the very
bits: a difference in the target's own dtype, a wider difference, or the whole tensor. Tensors that
the base lacks or has in another shape are stored whole: they replace, they are not added.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from evalsuite.checkpoint.identity import copy_companions
from evalsuite.checkpoint.manifest import (
    FORMAT,
    MANIFEST,
    DeltaManifest,
    TensorDelta,
    read_manifest,
)
from evalsuite.checkpoint.published import published_tensors
from evalsuite.checkpoint.shards import SHARD_BYTES, ShardWriter
from evalsuite.checkpoint.staging import new_folder
from evalsuite.checkpoint.tensors import TensorFolder, content_sha256, dtype_name, tensor_sha256
from evalsuite.errors import BadCheckpoint
from evalsuite.files import expanded

if TYPE_CHECKING:
    import torch

_PIECE = 1 << 20
"""Numbers that are computed at a time."""

_WIDER = {"float16": "float32", "bfloat16": "float32", "float32": "float64"}


def make_delta(
    base: Path, target: Path, out: Path, *, base_name: str = "", shard_bytes: int = SHARD_BYTES
) -> DeltaManifest:
    """Write ``target`` as its difference to ``base`` into the new folder ``out``.

    Args:
        base, target: Hugging Face folders, sharded alike or not.
        base_name: a hub id to record; the relative path by default.

    Raises:
        BadCheckpoint: a file is damaged or missing.
        BadOption: ``out`` holds something already.
        CannotWrite: no space or no permission.
    """
    bases, targets = TensorFolder(base), TensorFolder(target)
    described: dict[str, TensorDelta] = {}
    with new_folder(out) as folder, ShardWriter(folder, shard_bytes=shard_bytes) as writer:
        for name in targets.names:
            described[name] = _take_apart(bases, targets, name, writer)
        manifest = DeltaManifest(
            format=FORMAT,
            base=base_name or _relative(base, out),
            base_sha256=_base_content(described),
            sha256=content_sha256((name, d.sha256) for name, d in described.items()),
            tensors=described,
        )
        copy_companions(target, folder, card=True)
        (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return manifest


def apply_delta(base: Path, delta: Path, out: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Put base and delta together in the new folder ``out``, bit for bit what was taken apart.

    A delta without a manifest is added as the published ones ask; see
    :mod:`evalsuite.checkpoint.published`.

    Raises:
        BadCheckpoint: another base, or a file is damaged or missing; nothing is left behind.
        BadOption: ``out`` holds something already.
        CannotWrite: no space or no permission.
    """
    with new_folder(out) as folder:
        merge_delta(base, delta, folder, shard_bytes=shard_bytes)


def merge_delta(base: Path, delta: Path, folder: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
    """The same into a folder that is there and empty."""
    bases, deltas = TensorFolder(base), TensorFolder(delta)
    if (delta / MANIFEST).is_file():
        tensors = _merged_tensors(bases, deltas, read_manifest(delta))
    else:
        tensors = published_tensors(bases, deltas)
    with ShardWriter(folder, shard_bytes=shard_bytes) as writer:
        for name, tensor in tensors:
            writer.add(name, tensor)
    copy_companions(delta, folder, card=True)


def _take_apart(
    bases: TensorFolder, targets: TensorFolder, name: str, writer: ShardWriter
) -> TensorDelta:
    found = bases.read(name) if name in bases else None
    described, stored = _difference(targets.read(name), found)
    if stored is not None:
        writer.add(name, stored)
    return described


def _difference(
    wanted: torch.Tensor, found: torch.Tensor | None
) -> tuple[TensorDelta, torch.Tensor | None]:
    """The narrowest exact form of one tensor, and what is stored of it."""
    import torch

    dtype, shape, sha256 = dtype_name(wanted), tuple(wanted.shape), tensor_sha256(wanted)
    whole = TensorDelta(mode="whole", dtype=dtype, shape=shape, sha256=sha256), wanted
    if found is None or found.shape != wanted.shape:
        return whole
    base_sha256 = tensor_sha256(found)
    if base_sha256 == sha256:
        return msgspec.structs.replace(whole[0], mode="unchanged", base_sha256=base_sha256), None
    if dtype not in _WIDER or not found.is_floating_point():
        return whole
    for stored_as in (dtype, _WIDER[dtype]):
        double = torch.float64 in (found.dtype, getattr(torch, stored_as))
        precision = "float64" if double else "float32"
        stored = _exact_difference(wanted, found, precision, getattr(torch, stored_as))
        if stored is not None:
            described = TensorDelta(
                mode="difference",
                dtype=dtype,
                shape=shape,
                sha256=sha256,
                precision=precision,
                base_sha256=base_sha256,
            )
            return described, stored
    return whole


def _exact_difference(
    wanted: torch.Tensor, found: torch.Tensor, precision: str, stored_as: torch.dtype
) -> torch.Tensor | None:
    """What gives back ``wanted`` to the bit when it is added to ``found``; None where rounding bars."""
    import torch

    wide = getattr(torch, precision)
    stored = torch.empty(wanted.shape, dtype=stored_as)
    for target, base, out in _pieces(wanted, found, stored):
        out.copy_(target.to(wide) - base.to(wide))
        again = (base.to(wide) + out.to(wide)).to(target.dtype)
        if not torch.equal(again.view(torch.uint8), target.view(torch.uint8)):
            return None
    return stored


def _sum(
    base: torch.Tensor, stored: torch.Tensor, precision: str, dtype: torch.dtype
) -> torch.Tensor:
    import torch

    wide = getattr(torch, precision)
    total = torch.empty(base.shape, dtype=dtype)
    for one, other, out in _pieces(base, stored, total):
        out.copy_(one.to(wide) + other.to(wide))
    return total


def _pieces(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Tensors of one shape in short pieces, so that wide copies of them stay small."""
    flat = [tensor.reshape(-1) for tensor in tensors]
    for start in range(0, flat[0].numel(), _PIECE):
        yield tuple(tensor[start : start + _PIECE] for tensor in flat)


def _merged_tensors(
    bases: TensorFolder, deltas: TensorFolder, manifest: DeltaManifest
) -> Iterator[tuple[str, torch.Tensor]]:
    for name, described in manifest.tensors.items():
        if described.mode == "whole":
            merged = _stored(deltas, name)
        else:
            base = _checked_base(bases, name, described, manifest)
            if described.mode == "unchanged":
                merged = base
            else:
                merged = _added(base, _stored(deltas, name), described)
        found = tensor_sha256(merged)
        if found != described.sha256:
            raise BadCheckpoint(
                f"the merged tensor {name} has sha256 {found}, not {described.sha256}",
                where=str(deltas.path),
                hint="the delta is damaged; copy it again",
            )
        yield name, merged


def _added(base: torch.Tensor, stored: torch.Tensor, described: TensorDelta) -> torch.Tensor:
    import torch

    if stored.shape != base.shape:  # never broadcast; the sum's sha256 tells what is wrong
        return stored
    return _sum(base, stored, described.precision, getattr(torch, described.dtype))


def _stored(deltas: TensorFolder, name: str) -> torch.Tensor:
    if name not in deltas:
        raise BadCheckpoint(
            f"the delta has no tensor {name}, though its manifest names it",
            where=str(deltas.path),
            hint="copy the delta again",
        )
    return deltas.read(name)


def _checked_base(
    bases: TensorFolder, name: str, described: TensorDelta, manifest: DeltaManifest
) -> torch.Tensor:
    hint = f"give the base that the delta was made from: {manifest.base}"
    if name not in bases:
        raise BadCheckpoint(
            f"a wrong base: it has no tensor {name}", where=str(bases.path), hint=hint
        )
    base = bases.read(name)
    found = tensor_sha256(base)
    if found != described.base_sha256:
        raise BadCheckpoint(
            f"a wrong base: its tensor {name} has sha256 {found}, not {described.base_sha256}",
            where=str(bases.path),
            hint=hint,
        )
    return base


def _base_content(described: dict[str, TensorDelta]) -> str:
    return content_sha256((name, d.base_sha256) for name, d in described.items() if d.base_sha256)


def _relative(base: Path, out: Path) -> str:
    return os.path.relpath(expanded(base).resolve(), expanded(out).resolve())
