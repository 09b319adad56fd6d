"""The stage ``vocabulary``: a base model, trained or given, extended by characters and a second model.

Writes ``tokenizer/`` (tokenizer.model and tokenizer.json, equal in every id), ``report.json``, and ``checkpoint/`` where
a model is given whose embeddings are to grow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from evalsuite_train.data.texts import records_of
from evalsuite_train.errors import BadRecipe
from evalsuite_train.recipe import Recipe
from evalsuite_train.vocabulary import characters, report
from evalsuite_train.vocabulary.base import train_base
from evalsuite_train.vocabulary.embeddings import padded, resize_embeddings
from evalsuite_train.vocabulary.extension import added, extend, merge
from evalsuite_train.vocabulary.model import parsed, read
from evalsuite_train.vocabulary.tokenizer_files import write_tokenizer

MEASURED = 4000  # texts of a language that the gain is measured on
PROBED = 500  # texts that both tokenizers are compared on beside the built-in probes


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section ``vocabulary`` of a recipe.

    Attributes:
        base: a tokenizer.model, or ``train`` for one of ``pieces`` pieces from ``texts``.
        texts: files or folders in any of the data formats; the gain is measured on them too.
        coverage: the share of the texts' characters that a trained base must hold.
        characters: a list file of characters to add, or ``count`` for those that ``texts`` hold ``minimum`` times.
        second_model: a tokenizer.model whose pieces are added.
        model: a checkpoint folder of the base vocabulary, or another section, whose embeddings are resized.
        pad_multiple: embedding rows are rounded up to a multiple of it.
    """

    base: str = "train"
    pieces: int = 640
    texts: tuple[str, ...] = ()
    coverage: float = 0.9995
    characters: str = ""
    minimum: int = 100
    second_model: str = ""
    model: str = ""
    pad_multiple: int = 128


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Make the vocabulary.

    Raises:
        TrainError: an impossible setting, a file that cannot be used, or tokenizers that do not agree.
    """
    if config.pad_multiple < 1 or config.minimum < 1:
        raise BadRecipe(
            "pad_multiple and minimum are at least 1", where=f"{recipe.source}: vocabulary"
        )
    old = _base(config, recipe)
    new = old
    if config.characters == "count":
        new = extend(new, characters.from_texts(_texts(config, recipe), config.minimum))
    elif config.characters:
        new = extend(new, characters.from_list(recipe.file(config.characters)))
    if config.second_model:
        new = merge(new, read(recipe.file(config.second_model)))
    pieces = {"base": len(parsed(old).pieces), "new": len(added(old, new))}
    pieces["pieces"] = sum(pieces.values())
    pieces["rows"] = padded(pieces["pieces"], config.pad_multiple)
    probes = islice(_texts(config, recipe), PROBED) if config.texts else ()
    write_tokenizer(out / "tokenizer", new, probes=probes)
    gains = _gains(config, recipe, old, new)
    if config.model:
        resize_embeddings(
            recipe.parent(config.model),
            old,
            new,
            out / "checkpoint",
            multiple=config.pad_multiple,
            card=_card(config, recipe, out.name),
        )
    content = {**pieces, "texts": gains}
    (out / "report.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"
    )
    report.show(pieces, gains)


def _base(config: Config, recipe: Recipe) -> bytes:
    if config.base == "train":
        return train_base(_texts(config, recipe), config.pieces, coverage=config.coverage)
    return read(recipe.file(config.base))


def _texts(config: Config, recipe: Recipe) -> Iterator[str]:
    if not config.texts:
        raise BadRecipe(
            "no texts to train on or count",
            where=f"{recipe.source}: vocabulary",
            hint="give texts: [FILE, …], or a base tokenizer.model and a list of characters",
        )
    return (record.content for record in records_of([recipe.file(name) for name in config.texts]))


def _gains(config: Config, recipe: Recipe, old: bytes, new: bytes) -> list[report.Gain]:
    """Tokens per character of the texts in each language."""
    texts: dict[str, list[str]] = {}
    for record in records_of([recipe.file(name) for name in config.texts]):
        own = texts.setdefault(record.language, [])
        if len(own) < MEASURED:
            own.append(record.content)
    found = [report.gain(language, own, old, new) for language, own in sorted(texts.items())]
    return [entry for entry in found if entry is not None]


def _card(config: Config, recipe: Recipe, section: str) -> bytes:
    """Where the resized checkpoint stands; evalsuite reads it beside the weights."""
    parent = f"{recipe.name}-{config.model}" if config.model in recipe.sections else config.model
    card = {
        "name": f"{recipe.name}-{section}",
        "family": recipe.name,
        "stage": "vocabulary",
        "step": 0,
        "seed": recipe.seed,
        "parent": parent,
        "chat_template": None,
    }
    return (json.dumps(card, indent=2) + "\n").encode()
