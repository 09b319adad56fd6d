"""A folder's tensors, one at a time: only the one in hand is in memory, however large the model."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from evalsuite.checkpoint.plain import read_index
from evalsuite.errors import BadCheckpoint

if TYPE_CHECKING:
    import torch

_LARGEST_HEADER = 100 << 20
"""Bytes; the safetensors library draws the same line."""


class Entry(msgspec.Struct, frozen=True):
    """A tensor as a safetensors header describes it; ``begin`` counts from the file's start."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorFolder:
    """The tensors of a Hugging Face folder, found in the order in which transformers looks.

    Args:
        path: a folder with safetensors, or ``pytorch_model*.bin``, sharded or not.
        mapped: refuse pickles in torch's old format, which can only be read whole.

    Attributes:
        names: every tensor's name, shard by shard.

    Raises:
        BadCheckpoint: no weights, a shard is missing, or a file is damaged.
    """

    def __init__(self, path: Path, *, mapped: bool = False) -> None:
        self.path = path
        self._only_mapped = mapped
        self._headers: dict[Path, dict[str, Entry]] = {}
        self._legacy: tuple[Path, dict[str, Any]] | None = None
        self._shard_of = self._find()
        self.names = list(self._shard_of)

    def __contains__(self, name: object) -> bool:
        return name in self._shard_of

    def read(self, name: str) -> torch.Tensor:
        """One tensor, in memory of its own.

        Raises:
            BadCheckpoint: its file is truncated, or holds something else than tensors.
        """
        import torch

        file = self._shard_of[name]
        if file.suffix == ".safetensors":
            from safetensors import SafetensorError, safe_open

            try:
                with safe_open(file, framework="pt") as opened:
                    found = opened.get_tensor(name)
                    return _owned(found)
            except (SafetensorError, OSError) as fault:
                raise _damaged(file, fault) from None
        found = self._pickled(file).get(name)
        if not isinstance(found, torch.Tensor):
            raise _damaged(file, f"no tensor {name}")
        return _owned(found)

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape, read without the tensor."""
        file = self._shard_of[name]
        if file in self._headers:
            return self._headers[file][name].shape
        return tuple(getattr(self._pickled(file)[name], "shape", ()))

    def dtype(self, name: str) -> str:
        """Its dtype as safetensors (``BF16``) or torch (``bfloat16``) calls it."""
        file = self._shard_of[name]
        if file in self._headers:
            return self._headers[file][name].dtype
        return str(getattr(self._pickled(file)[name], "dtype", "")).removeprefix("torch.")

    def mean_magnitude(self, name: str) -> float | None:
        """The mean of the absolute values of a small tensor; None where it holds no floats.

        Without torch where the file is safetensors: whoever only looks need not wait for it.
        """
        import numpy

        file = self._shard_of[name]
        if file not in self._headers:
            tensor = self.read(name)
            return float(tensor.float().abs().mean()) if tensor.is_floating_point() else None
        entry = self._headers[file][name]
        kind = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}.get(entry.dtype)
        if kind is None:
            return None
        with file.open("rb") as stream:
            stream.seek(entry.begin)
            values = numpy.frombuffer(stream.read(entry.end - entry.begin), kind)
        if entry.dtype == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        with numpy.errstate(all="ignore"):
            return float(numpy.abs(values.astype("<f8")).mean()) if values.size else None

    def _find(self) -> dict[str, Path]:
        for single in ("model.safetensors", "pytorch_model.bin"):
            kind = "safetensors" if single.endswith("safetensors") else "bin"
            index = self.path / f"{single}.index.json"
            if (self.path / single).is_file():
                return dict.fromkeys(self._inside(self.path / single), self.path / single)
            if index.is_file():
                return self._sharded(read_index(index), index)
            others = sorted(self.path.glob(f"*.{kind}"))
            if kind == "safetensors" and others:
                return {name: file for file in others for name in self._inside(file)}
        raise BadCheckpoint("no weights", where=str(self.path), hint="expected *.safetensors")

    def _sharded(self, weight_map: dict[str, str], index: Path) -> dict[str, Path]:
        shards = sorted(set(weight_map.values()))
        for shard in shards:
            if Path(shard).name != shard:
                raise BadCheckpoint(
                    f"names weights outside its folder: {shard!r}", where=str(index)
                )
            if not (self.path / shard).is_file():
                raise BadCheckpoint(
                    "a file of weights is missing",
                    where=str(self.path / shard),
                    hint=f"{index.name} names it; copy the checkpoint again",
                )
        found = {}
        for shard in shards:
            inside = set(self._inside(self.path / shard))
            for name in sorted(n for n, s in weight_map.items() if s == shard):
                if name not in inside:
                    raise _damaged(self.path / shard, f"{index.name} says it holds {name}")
                found[name] = self.path / shard
        return found

    def _inside(self, file: Path) -> list[str]:
        if file.suffix == ".safetensors":
            self._headers[file] = read_header(file)
            return list(self._headers[file])
        return [str(name) for name in self._pickled(file)]

    def _pickled(self, file: Path) -> dict[str, Any]:
        """A pickled shard mapped into memory; one in torch's old format is read whole, and kept."""
        if self._legacy and self._legacy[0] == file:
            return self._legacy[1]
        if self._only_mapped and not zipfile.is_zipfile(file):
            raise _damaged(file, "in torch's old format")
        found, mapped = load_pickled(file)
        if not mapped:
            self._legacy = file, found
        return found


def _owned(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy that does not hold on to the file it was mapped from."""
    import torch

    return tensor.detach().clone(memory_format=torch.contiguous_format)


def load_pickled(file: Path) -> tuple[dict[str, Any], bool]:
    """A pickled state dict, read with ``weights_only``, and whether it is mapped from the disk.

    Raises:
        BadCheckpoint: damaged, or it holds more than tensors; nothing of it is executed.
    """
    import torch

    try:
        mapped = zipfile.is_zipfile(file)
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as fault:
        raise _damaged(file, fault) from None
    if not isinstance(found, dict):
        raise _damaged(file, "not a dictionary of tensors")
    return found, mapped


def read_header(file: Path) -> dict[str, Entry]:
    """A safetensors file's header, without torch.

    Raises:
        BadCheckpoint: not a whole safetensors file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, _LARGEST_HEADER):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(stream.read(length))
        start = 8 + length
        header.pop("__metadata__", None)
        entries = {
            name: Entry(
                str(entry["dtype"]),
                tuple(map(int, entry["shape"])),
                start + int(entry["data_offsets"][0]),
                start + int(entry["data_offsets"][1]),
            )
            for name, entry in header.items()
        }
        if any(not start <= e.begin <= e.end <= size for e in entries.values()):
            raise ValueError("tensors end beyond the end of the file")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as fault:
        raise _damaged(file, fault) from None
    except (struct.error, RecursionError) as fault:
        raise _damaged(file, fault) from None
    return entries


def _damaged(file: Path, fault: BaseException | str) -> BadCheckpoint:
    lines = str(fault).strip().splitlines()
    what = lines[0] if lines else type(fault).__name__
    kind = "a whole safetensors file" if file.suffix == ".safetensors" else "a file of weights"
    return BadCheckpoint(f"not {kind}: {what[:200]}", where=str(file), hint="copy or save it again")


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor, little-endian as on every machine that torch runs on."""
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def dtype_name(tensor: torch.Tensor) -> str:
    """``float16``, ``bfloat16``, …"""
    return str(tensor.dtype).removeprefix("torch.")


def tensor_sha256(tensor: torch.Tensor) -> str:
    """sha256 over dtype, shape and bytes: how a model is cut into shards does not change it."""
    total = hashlib.sha256(f"{dtype_name(tensor)} {list(tensor.shape)}\n".encode())
    total.update(raw_bytes(tensor))
    return total.hexdigest()


def content_sha256(tensors: Iterable[tuple[str, str]]) -> str:
    """One sha256 over every tensor's ``(name, sha256)``."""
    lines = [f"{content}  {name}\n" for name, content in sorted(tensors)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
