"""``delta.json``: what a delta was taken from, how each tensor is had back, and what it must be."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from evalsuite.errors import BadCheckpoint

MANIFEST = "delta.json"
FORMAT = 1

DTYPES = {
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2",
    "int64", "int32", "int16", "int8", "uint8", "bool",
}  # fmt: skip


class TensorDelta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one tensor of the target is had back.

    Attributes:
        mode: ``difference``: base + stored, computed in ``precision``, cast to ``dtype``.
            ``whole``: the stored tensor itself. ``unchanged``: the base's; nothing is stored.
        dtype: of the target.
        precision: in which base and difference are added; empty for the other modes.
        base_sha256: of the base's tensor; empty where it plays no part.
        sha256: of the merged tensor; see :func:`evalsuite.checkpoint.tensors.tensor_sha256`.
    """

    mode: Literal["difference", "whole", "unchanged"]
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    precision: str = ""
    base_sha256: str = ""


class DeltaManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``delta.json``.

    Attributes:
        base: where the base was: a hub id, or a path relative to the delta's folder.
        base_sha256: of the base's tensors that play a part, however they are sharded.
        sha256: of all merged tensors.
    """

    format: int
    base: str
    base_sha256: str
    sha256: str
    tensors: dict[str, TensorDelta]


def read_manifest(folder: Path) -> DeltaManifest:
    """The folder's ``delta.json``.

    Raises:
        BadCheckpoint: malformed, or of a later format.
    """
    file = folder / MANIFEST
    try:
        found = msgspec.json.decode(file.read_bytes())
        version = found.get("format") if isinstance(found, dict) else None
        if isinstance(version, int) and not 1 <= version <= FORMAT:
            raise BadCheckpoint(
                f"a delta of format {version}, not 1 to {FORMAT}",
                where=str(file),
                hint="use a later evalsuite",
            )
        manifest = msgspec.convert(found, DeltaManifest)
    except OSError as fault:
        raise BadCheckpoint(f"cannot be read: {fault.strerror}", where=str(file)) from None
    except (
        msgspec.DecodeError,
        msgspec.ValidationError,
        UnicodeDecodeError,
        RecursionError,
    ) as fault:
        raise BadCheckpoint(f"no delta's manifest: {fault}", where=str(file)) from None
    for name, tensor in manifest.tensors.items():
        for dtype in (tensor.dtype, tensor.precision or "float32"):
            if dtype not in DTYPES:
                raise BadCheckpoint(f"no dtype {dtype!r}, for the tensor {name}", where=str(file))
        if tensor.mode == "difference" and not tensor.precision:
            raise BadCheckpoint(f"no precision for the difference {name}", where=str(file))
    return manifest
