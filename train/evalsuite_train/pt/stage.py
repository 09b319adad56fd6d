"""The PT stage: a model from scratch, or a checkpoint trained further, on packed documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalsuite_train.checkpoint import load_tokenizer, read_card, write_checkpoint
from evalsuite_train.curves import shipped_log
from evalsuite_train.errors import BadRecipe
from evalsuite_train.model import Shape, load_model, new_model
from evalsuite_train.packing import pack
from evalsuite_train.pt.card import card
from evalsuite_train.recipe import Recipe
from evalsuite_train.state import remove_states
from evalsuite_train.trainer import Batch, Optimisation, train

ROW_MULTIPLE = 128


class Config(Optimisation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A PT section.

    Attributes:
        data: JSONL with a ``text`` in every row, or a folder of such files.
        tokenizer: the section that made it, or a folder.
        parent: the checkpoint to train further (a section or a folder); None starts from scratch.
        shape: the size of a new model.
        batch: rows of a micro-batch.
        length: tokens of a row.
        separate: positions and attention begin anew at every document of a row.
    """

    data: str = "data/pt.jsonl"
    tokenizer: str = "vocabulary"
    parent: str | None = None
    shape: Shape | None = None
    batch: int = 16
    length: int = 512
    separate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Train and write ``out/checkpoint``."""
    tokenizer = tokenizer_folder(recipe, config.tokenizer)
    model, parent = starting_model(config, recipe, len(load_tokenizer(tokenizer)))
    packed = pack(recipe.file(config.data), tokenizer, out / "tokens")

    def batches(first: int) -> Iterator[Batch]:
        return packed.batches(
            first,
            rows=config.batch,
            length=config.length,
            seed=recipe.seed,
            separate=config.separate,
        )

    steps = train(model, batches, config, out, seed=recipe.seed, data=packed.key)
    write_checkpoint(
        out / "checkpoint",
        model,
        tokenizer=tokenizer,
        recipe=recipe,
        section=out.name,
        step=steps,
        parent=parent,
        template=None,
        files={
            "README.md": card(
                name=f"{recipe.name}-{out.name}",
                model=model,
                packed=packed,
                data=config.data,
                parent=parent,
                log=out / "log.jsonl",
                length=config.length,
            ),
            "train_log.jsonl": shipped_log(out / "log.jsonl"),
        },
    )
    remove_states(out)


def tokenizer_folder(recipe: Recipe, name: str) -> Path:
    """The tokenizer meant by a section's ``tokenizer``: another section's, or a folder.

    Raises:
        BadRecipe: there is none.
    """
    if name in recipe.sections:
        section = recipe.folder(name)
        candidates = [section / "tokenizer", section / "checkpoint"]
        hint = f"run it first: evalsuite-train {name} --recipe {recipe.source}"
    else:
        candidates, hint = [recipe.place(name)], "give a section of the recipe or a folder"
    for folder in candidates:
        if (folder / "tokenizer.json").is_file():
            return folder
    raise BadRecipe(f"no tokenizer at {candidates[0]}", where=recipe.source, hint=hint)


def starting_model(config: Config, recipe: Recipe, pieces: int) -> tuple[Any, str | None]:
    """The model before the first step, and the name of the checkpoint it is from."""
    where = f"{recipe.source}: pt"
    if config.parent is None:
        model = new_model(
            config.shape or Shape(), -(-pieces // ROW_MULTIPLE) * ROW_MULTIPLE, recipe.seed
        )
        name = None
    elif config.shape is not None:
        raise BadRecipe(
            "a parent has its own shape", where=where, hint="give parent or shape, not both"
        )
    else:
        folder = recipe.parent(config.parent)
        model, name = load_model(folder), read_card(folder).get("name", folder.name)
    rows, context = (
        model.get_input_embeddings().weight.shape[0],
        model.config.max_position_embeddings,
    )
    if pieces > rows:
        raise BadRecipe(
            f"the tokenizer has {pieces} pieces, the model only {rows} embedding rows",
            where=where,
            hint="resize the parent first: the vocabulary stage writes a resized checkpoint",
        )
    if config.length > context:
        raise BadRecipe(
            f"length is {config.length}, the model's context only {context}",
            where=where,
            hint="lower length, or raise shape.context",
        )
    return model, name
