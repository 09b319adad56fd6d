"""Embedding rows for new pieces: each starts as the mean of the rows that spelled it before.

A checkpoint of any size is resized shard by shard: only the one being written is in memory.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import sentencepiece as spm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evalsuite_train.errors import TrainError
from evalsuite_train.files import whole_folder
from evalsuite_train.vocabulary.extension import added
from evalsuite_train.vocabulary.model import parsed
from evalsuite_train.vocabulary.tokenizer_files import write_tokenizer

INPUT = "embed_tokens.weight"
OUTPUT = "lm_head.weight"
INDEX = "model.safetensors.index.json"
CARRIED = ("generation_config.json", "chat_template.jinja", "evalsuite.json", "README.md")


def padded(pieces: int, multiple: int = 128) -> int:
    """Rows for so many pieces, rounded up so that matrix products keep their fast shapes."""
    return -(-pieces // multiple) * multiple


def spelled(old: bytes, pieces: list[str]) -> list[list[int]]:
    """The old ids that spelled each new piece, without the dummy prefix."""
    model = parsed(old)
    model.normalizer_spec.add_dummy_prefix = False
    processor = spm.SentencePieceProcessor(model_proto=model.SerializeToString())
    ids: list[list[int]] = processor.encode([piece.replace("▁", " ") for piece in pieces])
    return ids


def extended_rows(weight: Tensor, old_pieces: int, parts: list[list[int]], rows: int) -> Tensor:
    """The embedding with new rows: ``[old rows, width]`` → ``[rows, width]``.

    Rows below ``old_pieces`` are copied bit by bit. New piece i is the mean over ``parts[i]``
    (Ziya and Chinese-LLaMA start so), taken in float32; the padding rows behind the last piece are
    the mean of all old ones, so that they favour nothing until they are masked.

    Args:
        weight: of any floating type; the result has the same.
    """
    old = weight[:old_pieces].float()
    new = torch.empty(rows, weight.shape[1], dtype=weight.dtype)
    new[:old_pieces] = weight[:old_pieces]
    for index, ids in enumerate(parts):
        new[old_pieces + index] = old[ids].mean(0).to(weight.dtype)
    new[old_pieces + len(parts) :] = old.mean(0).to(weight.dtype)
    return new


def resize_embeddings(
    folder: Path, old: bytes, new: bytes, out: Path, *, multiple: int = 128, card: bytes = b""
) -> dict[str, int]:
    """Copy a checkpoint to ``out`` with the new vocabulary: weights, config.json and tokenizer.

    The input embedding and an untied output layer get ``padded(pieces)`` rows. ``out`` appears as
    a whole or not at all; ids beyond the tokenizer stay masked by whoever generates.

    Args:
        folder: a Hugging Face folder with safetensors.
        old: the SentencePiece model that ``folder`` was trained with.
        new: an extension of it.
        card: the content of evalsuite.json; the parent's is copied by default.

    Returns:
        ``pieces``, ``new`` and ``rows``.

    Raises:
        TrainError: the vocabularies or the weights do not belong together.
    """
    pieces = added(old, new)
    old_pieces = len(parsed(old).pieces)
    config = _config(folder)
    rows = padded(old_pieces + len(pieces), multiple)
    parts = spelled(old, pieces)
    if out.resolve() == folder.resolve():
        raise TrainError(
            "a checkpoint is not resized in place", where=str(out), hint="name another"
        )
    resized: set[str] = set()
    size = 0
    try:
        with whole_folder(out) as made:
            for shard in _shards(folder):
                size += _resize_shard(shard, made / shard.name, old_pieces, parts, rows, resized)
            _require(folder, config, resized)
            _write_index(folder, made, size)
            config["vocab_size"] = rows
            _write_json(made / "config.json", config)
            for name in CARRIED:
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, made / name)
            if card:
                (made / "evalsuite.json").write_bytes(card)
            write_tokenizer(made, new)
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise TrainError(
            f"cannot write the resized checkpoint: {reason}", where=str(out)
        ) from fault
    return {"pieces": old_pieces + len(pieces), "new": len(pieces), "rows": rows}


def _resize_shard(
    shard: Path, target: Path, old_pieces: int, parts: list[list[int]], rows: int, done: set[str]
) -> int:
    """Write one shard; the names of resized tensors go into ``done``. Returns its bytes."""
    try:
        with safe_open(shard, framework="pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            metadata = handle.metadata() or {"format": "pt"}
    except (SafetensorError, OSError) as fault:
        raise TrainError(f"not a whole safetensors file: {fault}", where=str(shard)) from fault
    for name, weight in tensors.items():
        if not name.endswith((INPUT, OUTPUT)):
            continue
        if weight.ndim != 2 or weight.shape[0] < old_pieces:
            raise TrainError(
                f"{name} has {weight.shape[0]} rows, fewer than the old vocabulary's {old_pieces}",
                where=str(shard),
                hint="give as base the tokenizer.model that these weights were trained with",
            )
        tensors[name] = extended_rows(weight, old_pieces, parts, rows)
        done.add(INPUT if name.endswith(INPUT) else OUTPUT)
    save_file(tensors, target, metadata)
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _require(folder: Path, config: dict[str, Any], resized: set[str]) -> None:
    """Both layers that depend on the vocabulary must have been among the shards."""
    causal = any(str(a).endswith("CausalLM") for a in config.get("architectures") or ["CausalLM"])
    untied = causal and not config.get("tie_word_embeddings", False)
    for name in [INPUT, OUTPUT] if untied else [INPUT]:
        if name not in resized:
            raise TrainError(
                f"no tensor named …{name}",
                where=str(folder),
                hint="only LLaMA-like checkpoints can be resized; check tie_word_embeddings",
            )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise TrainError(
            f"no readable config.json: {fault}",
            where=str(folder),
            hint="give a Hugging Face checkpoint folder",
        ) from fault
    if not isinstance(config, dict):
        raise TrainError("config.json is no JSON object", where=str(folder))
    return config


def _shards(folder: Path) -> list[Path]:
    """The safetensors files that the index names, or the only one."""
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(
                set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            )
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise TrainError("not an index of shards", where=str(index)) from fault
        # A name with a slash could lead out of the folder.
        if any(not isinstance(name, str) or Path(name).name != name for name in names):
            raise TrainError("a shard's name is no plain file name", where=str(index))
    else:
        names = ["model.safetensors"]
    for name in names:
        if not (folder / name).is_file():
            raise TrainError(
                f"no {name}",
                where=str(folder),
                hint="save the weights as safetensors first (save_pretrained does)",
            )
    return [folder / name for name in names]


def _write_index(folder: Path, target: Path, size: int) -> None:
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        index["metadata"] = {"total_size": size}
        _write_json(target / INDEX, index)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
