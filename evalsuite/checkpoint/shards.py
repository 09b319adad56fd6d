"""Writing safetensors tensor by tensor, without holding a shard in memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from evalsuite.checkpoint.tensors import dtype_name, raw_bytes
from evalsuite.errors import BadCheckpoint

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 4 << 30
_HEADER_BYTES = 1 << 17
"""Room kept for a header; the format allows blanks at its end. A shard ends when it is full."""

_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip


class ShardWriter:
    """A folder of safetensors shards with their index, or one ``model.safetensors``.

    safetensors' own writer takes a whole shard at once, which at 4 GB a shard is the memory that
    streaming is to save. The layout is that of its specification: 8 bytes of length, a JSON header,
    the tensors' bytes without gaps.

    Args:
        folder: where to write; it must exist.
        shard_bytes: where a shard ends; a tensor is never divided.
    """

    def __init__(self, folder: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._limit = shard_bytes
        self._shards: list[list[str]] = []
        self._stream: BinaryIO | None = None
        self._header: dict[str, Any] = {}
        self._header_bytes = 0
        self._written = 0
        self._total = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Append a tensor.

        Raises:
            BadCheckpoint: safetensors has no such dtype.
        """
        dtype = _DTYPES.get(dtype_name(tensor))
        if dtype is None:
            raise BadCheckpoint(f"safetensors has no dtype {dtype_name(tensor)}", where=name)
        data = raw_bytes(tensor)
        entry = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [self._written, self._written + len(data)],
        }
        described = len(json.dumps({name: entry}))
        full = self._written and self._written + len(data) > self._limit
        if full or self._header_bytes + described > _HEADER_BYTES - 64:
            self._finish_shard()
            entry["data_offsets"] = [0, len(data)]
        if described > _HEADER_BYTES - 64:
            raise BadCheckpoint(f"a tensor's name has {len(name)} characters", where=name[:40])
        if self._stream is None:
            self._shards.append([])
            self._stream = self._partial(len(self._shards)).open("wb")
            self._stream.write(b"\0" * (8 + _HEADER_BYTES))
        self._header[name] = entry
        self._stream.write(data)
        self._header_bytes += described
        self._written += len(data)
        self._total += len(data)
        self._shards[-1].append(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, fault: type[BaseException] | None, *_: object) -> None:
        """Write the last header, name the shards and write their index; not after an error."""
        if fault is None:
            self._close()
        elif self._stream is not None:
            self._stream.close()

    def _close(self) -> None:
        self._finish_shard()
        count = len(self._shards)
        if count == 1:
            self._partial(1).rename(self._folder / "model.safetensors")
            return
        weight_map = {}
        for number, names in enumerate(self._shards, 1):
            file = f"model-{number:05}-of-{count:05}.safetensors"
            self._partial(number).rename(self._folder / file)
            weight_map.update(dict.fromkeys(names, file))
        index = {"metadata": {"total_size": self._total}, "weight_map": weight_map}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (self._folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")

    def _finish_shard(self) -> None:
        if self._stream is None:
            return
        header = _encoded(self._header).ljust(_HEADER_BYTES)
        self._stream.seek(0)
        self._stream.write(len(header).to_bytes(8, "little") + header)
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._stream, self._header, self._header_bytes, self._written = None, {}, 0, 0

    def _partial(self, number: int) -> Path:
        return self._folder / f"shard-{number:05}.partial"


def _encoded(header: dict[str, Any]) -> bytes:
    return json.dumps({"__metadata__": {"format": "pt"}, **header}, separators=(",", ":")).encode()
