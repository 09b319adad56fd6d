"""The checkpoint that a fine-tuning starts from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from evalsuite_train.errors import BadRecipe
from evalsuite_train.model import load_model


def load_parent(folder: Path, pieces: int, max_length: int) -> Any:
    """The model in ``folder``, in float32.

    Args:
        pieces: how many tokens the tokenizer has.
        max_length: tokens of the longest sample.

    Raises:
        BadRecipe: tokenizer or samples do not fit the model.
    """
    model = load_model(folder)
    rows = model.get_input_embeddings().weight.shape[0]
    context = model.config.max_position_embeddings
    if pieces > rows:
        raise BadRecipe(
            f"the tokenizer has {pieces} pieces, the model only {rows} embedding rows",
            where=str(folder),
            hint="resize the parent first: the vocabulary stage writes a resized checkpoint",
        )
    if max_length > context:
        raise BadRecipe(
            f"max_length is {max_length}, the model's context only {context}",
            where=str(folder),
            hint="lower max_length",
        )
    return model


def weights_digest(folder: Path) -> str:
    """A sha256 over the weights in a checkpoint's folder."""
    total = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        total.update(file.name.encode())
        with file.open("rb") as content:
            while block := content.read(1 << 22):
                total.update(block)
    return total.hexdigest()
