"""The folder that a stage writes and evalsuite reads: weights, tokenizer, and the card that says where it stands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from evalsuite_train.disk import writing
from evalsuite_train.errors import BadRecipe
from evalsuite_train.files import whole_folder
from evalsuite_train.recipe import Recipe

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer in ``folder``; it adds no special tokens unless asked to."""
    try:
        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as fault:
        reason = f"{type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else ''}"
        raise BadRecipe(
            f"its tokenizer cannot be loaded: {reason[:300]}", where=str(folder)
        ) from None


def write_checkpoint(
    folder: Path,
    model: Any,
    *,
    tokenizer: Path,
    recipe: Recipe,
    section: str,
    step: int,
    parent: str | None,
    template: str | None,
    dtype: torch.dtype = torch.bfloat16,
    files: dict[str, str] | None = None,
) -> Path:
    """Write a whole checkpoint folder, replacing an older one only once the new one is complete.

    Args:
        tokenizer: the folder whose tokenizer files are copied.
        step: optimiser steps of this stage.
        parent: the card's name of the checkpoint this one was trained from (``tiny-pt``).
        template: a template's name (``ziya``, …) or None for a model without one.
        files: further files, such as ``README.md`` (the model card) and ``train_log.jsonl``.

    Raises:
        TrainError: a full disk; nothing of the new folder is left, an older one still stands.
    """
    card = {
        "name": f"{recipe.name}-{section}",
        "family": recipe.name,
        "stage": recipe.stage_of(section),
        "step": step,
        "seed": recipe.seed,
        "parent": parent,
        "chat_template": template,
    }
    texts = {"evalsuite.json": json.dumps(card, indent=2) + "\n", **(files or {})}
    with writing(folder), whole_folder(folder) as new:
        _save(model, dtype, new)
        write_beside(new, tokenizer, texts)
    return folder


def write_beside(folder: Path, tokenizer: Path, files: dict[str, str]) -> None:
    """Write what stands beside weights: the tokenizer's files, copied, and further texts."""
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _save(model: Any, dtype: torch.dtype, folder: Path) -> None:
    """Write the weights rounded to ``dtype``; the model in memory stays rounded.

    So what is measured afterwards is what was written.
    """
    kept = next(model.parameters()).dtype
    buffers = [buffer.clone() for buffer in model.buffers()]
    model.to(dtype).save_pretrained(folder)
    model.to(kept)
    for buffer, exact in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(exact)  # the rotary frequencies are not written, so nothing may round them


def read_card(folder: Path) -> dict[str, Any]:
    """The checkpoint's ``evalsuite.json``, or an empty one.

    Raises:
        BadRecipe: it is no card, or its name is not one line of text that can be shown.
    """
    file = folder / "evalsuite.json"
    if not file.is_file():
        return {}
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        card = None
    if not isinstance(card, dict):
        raise BadRecipe("not a checkpoint's card", where=str(file), hint="remove or mend it")
    name = card.get("name")
    if name is not None and not (isinstance(name, str) and name.isprintable() and len(name) <= 200):
        raise BadRecipe(
            f"its name is not one line of text: {ascii(name)[:60]}",
            where=str(file),
            hint="give the checkpoint a plain name",
        )
    return card
