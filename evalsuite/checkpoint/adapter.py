"""LoRA adapters: merged into their base once, by peft, then read as plain weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalsuite.checkpoint.identity import companions, copy_companions
from evalsuite.checkpoint.plain import has_weights, quantization, read_json_object
from evalsuite.checkpoint.quiet import quiet
from evalsuite.checkpoint.tensors import TensorFolder, load_pickled, read_header
from evalsuite.errors import BadCheckpoint, EngineUnavailable

CONFIG = "adapter_config.json"
BASE_KEYS = ("base_model_name_or_path", "revision")
"""Where the base lies: it says nothing about the weights, so the fingerprint leaves it out."""

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_EMBEDDING, _HEAD = "embed_tokens.weight", "lm_head.weight"


def is_adapter(path: Path) -> bool:
    """Whether the folder holds an adapter and no weights of its own."""
    return (path / CONFIG).is_file() and not has_weights(path)


def read_adapter_config(path: Path) -> dict[str, Any]:
    """``adapter_config.json``, refused unless it is a LoRA adapter with its weights there.

    Raises:
        BadCheckpoint: another kind of adapter, no weights, or code of its own.
    """
    config = read_json_object(path / CONFIG, str(path))
    kind = str(config.get("peft_type"))
    if kind != "LORA":
        raise BadCheckpoint(
            f"an adapter of the kind {kind}, not LORA",
            where=str(path / CONFIG),
            hint="merge it into its base with peft, and give the merged folder",
        )
    if config.get("megatron_config"):
        raise BadCheckpoint(
            "an adapter for Megatron, which would import modules that it names itself",
            where=str(path / CONFIG),
            hint="merge it where it was trained",
        )
    weights_file(path)
    return config


def weights_file(path: Path) -> Path:
    """The adapter's weights.

    Raises:
        BadCheckpoint: there are none.
    """
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (path / name).is_file():
            return path / name
    raise BadCheckpoint(
        "an adapter without weights", where=str(path), hint="expected adapter_model.safetensors"
    )


def merge_adapter(base: Path, adapter: Path, folder: Path) -> None:
    """Merge with peft's ``merge_and_unload``, in the dtype of the base, and write a plain folder.

    Embeddings of a grown vocabulary that were saved with the adapter replace the base's. The
    adapter's tokenizer, if it has one, wins.

    Raises:
        BadCheckpoint: weights, base and tokenizer do not fit together.
        EngineUnavailable: peft is not installed.
    """
    try:
        import peft
    except ImportError:
        raise EngineUnavailable(
            "a LoRA adapter needs peft, which is not here",
            where=str(adapter),
            hint="pip install peft",
        ) from None
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    config = read_json_object(base / "config.json", str(base))
    if quantization(config):
        raise BadCheckpoint(
            f"the adapter's base is quantised ({quantization(config)}), and nothing merges into it",
            where=str(base),
            hint="give the base in full precision with --base",
        )
    rows = _fitting_rows(adapter, base)
    try:
        with quiet(), torch.no_grad():
            model = AutoModelForCausalLM.from_pretrained(
                str(base),
                dtype="auto",
                local_files_only=True,
                weights_only=True,
                trust_remote_code=False,
            )
            if rows and rows != model.get_input_embeddings().weight.shape[0]:
                model.resize_token_embeddings(rows, mean_resizing=False)
            merged = peft.PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except Exception as fault:
        lines = str(fault).strip().splitlines()
        raise BadCheckpoint(
            f"the adapter does not fit its base: {lines[0][:200] if lines else fault!r}",
            where=str(adapter),
            hint=f"give the base that it was trained on with --base; this was {base}",
        ) from None
    merged.generation_config = GenerationConfig()  # the base's own file is copied below
    with quiet():
        merged.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    saved = (folder / "config.json").read_bytes()
    brings_tokenizer = any((adapter / name).is_file() for name in _TOKENIZERS)
    if brings_tokenizer:
        _copy_all_but_tokenizer(base, folder)
    else:
        copy_companions(base, folder)
    copy_companions(adapter, folder, card=True)
    (folder / "config.json").write_bytes(saved)


def _copy_all_but_tokenizer(base: Path, folder: Path) -> None:
    """A vocabulary of one and merges of the other would make a third tokenizer."""
    for file in companions(base):
        if file.name in ("generation_config.json",) or file.suffix == ".py":
            (folder / file.name).write_bytes(file.read_bytes())


def _fitting_rows(adapter: Path, base: Path) -> int | None:
    """The embedding's rows that the adapter brings, if it brings any; all checked to fit."""
    bases = TensorFolder(base)
    shapes = _shapes(weights_file(adapter))
    brought = {
        role: shape[0]
        for role in (_EMBEDDING, _HEAD)
        for name, shape in shapes.items()
        if name.endswith(role) and len(shape) == 2
    }
    own = {
        role: bases.shape(name)[0]
        for role in (_EMBEDDING, _HEAD)
        for name in bases.names
        if name.endswith(role) and len(bases.shape(name)) == 2
    }
    rows = {role: brought.get(role, own.get(role)) for role in (_EMBEDDING, _HEAD)}
    counts = {role: count for role, count in rows.items() if count is not None}
    if len(set(counts.values())) > 1:
        raise BadCheckpoint(
            f"embeddings of {counts[_EMBEDDING]} rows and a head of {counts[_HEAD]}",
            where=str(adapter),
            hint="save both with the adapter: modules_to_save=['embed_tokens', 'lm_head']",
        )
    _check_tokenizer(adapter, base, next(iter(counts.values()), None))
    return brought.get(_EMBEDDING, brought.get(_HEAD))


def _check_tokenizer(adapter: Path, base: Path, rows: int | None) -> None:
    from transformers import AutoTokenizer

    folder = adapter if any((adapter / name).is_file() for name in _TOKENIZERS) else base
    try:
        size = len(
            AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        )
    except Exception:
        return  # the engine says what is wrong with it
    if rows is not None and size > rows:
        raise BadCheckpoint(
            f"a tokenizer of {size} tokens, but embeddings of {rows} rows",
            where=str(folder),
            hint="give the base with --base that has as many rows, or the adapter's own tokenizer; "
            "an adapter with new tokens is saved with save_embedding_layers=True",
        )


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    if file.suffix == ".safetensors":
        return {name: entry.shape for name, entry in read_header(file).items()}
    return {name: tuple(tensor.shape) for name, tensor in load_pickled(file)[0].items()}
