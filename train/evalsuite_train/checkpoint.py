"""The folder that a stage writes and evalsuite reads: weights, tokenizer, and the card that says where it stands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from evalsuite_train.errors import BadRecipe
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
    """
    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    kept = next(model.parameters()).dtype
    buffers = [buffer.clone() for buffer in model.buffers()]
    model.to(dtype).save_pretrained(temporary)
    model.to(kept)  # the weights stay rounded: what is measured afterwards is what was written
    for buffer, exact in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(exact)  # the rotary frequencies are not written, so nothing may round them
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, temporary / name)
    card = {
        "name": f"{recipe.name}-{section}",
        "family": recipe.name,
        "stage": recipe.stage_of(section),
        "step": step,
        "seed": recipe.seed,
        "parent": parent,
        "chat_template": template,
    }
    for name, text in {
        "evalsuite.json": json.dumps(card, indent=2) + "\n",
        **(files or {}),
    }.items():
        (temporary / name).write_text(text, encoding="utf-8")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def read_card(folder: Path) -> dict[str, Any]:
    """The checkpoint's ``evalsuite.json``, or an empty one."""
    file = folder / "evalsuite.json"
    if not file.is_file():
        return {}
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        card = None
    if not isinstance(card, dict):
        raise BadRecipe("not a checkpoint's card", where=str(file), hint="remove or mend it")
    return card
