"""LLaMA's real vocabulary through the stage ``vocabulary``: old ids stand, and any text comes back exactly.

The tests make small vocabularies of their own, since LLaMA's is not ours to ship. This takes the real
``tokenizer.model`` and a table of characters, has the stage extend the one by the other, and checks
what it wrote with SentencePiece's and Hugging Face's own libraries: every old id's piece, score and
type; every line of the texts, there and back, the same ids in both. Exits with 1 where one does not hold.

    python benchmarks/llama_vocabulary.py --tokenizer tokenizer.model --characters TABLE TEXT...
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import sentencepiece as spm
from evalsuite_train.recipe import Recipe
from evalsuite_train.vocabulary import stage
from tokenizers import Tokenizer

BATCH = 1000
CONTROLS = ("<unk>", "<s>", "</s>", "▁")
"""Hugging Face reads the first three as tokens; SentencePiece writes a space as the last."""


def main() -> int:
    """Extend, check, print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", required=True, type=Path, help="LLaMA's tokenizer.model")
    parser.add_argument("--characters", required=True, type=Path, help="a list or code table")
    parser.add_argument("texts", nargs="+", type=Path, help="UTF-8, a text a line")
    options = parser.parse_args()
    base, characters, *texts = (
        str(file.resolve()) for file in (options.tokenizer, options.characters, *options.texts)
    )
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe("llama", 1, Path(folder), (), {"vocabulary": {}}, "the command line")
        config = stage.Config(base=base, characters=characters, texts=tuple(texts))
        stage.run(config, recipe, recipe.folder("vocabulary"))
        written = recipe.folder("vocabulary") / "tokenizer"
        faults = [
            *changed_ids(options.tokenizer, written),
            *chain.from_iterable(altered_lines(written, file) for file in options.texts),
        ]
    print(*faults[:20], f"{len(faults)} faults" if faults else "all of it holds", sep="\n")
    return 1 if faults else 0


def changed_ids(base: Path, written: Path) -> Iterator[str]:
    """The old ids that mean something else in one of the two new tokenizers."""
    old, new = (spm.SentencePieceProcessor(str(f)) for f in (base, written / "tokenizer.model"))
    fast = Tokenizer.from_file(str(written / "tokenizer.json"))
    pieces = old.get_piece_size()
    for i in range(pieces):
        before, after = (_meaning(model, i) for model in (old, new))
        if before != after or fast.id_to_token(i) != before[0]:
            yield f"id {i} was {before} and is {after}, {fast.id_to_token(i)!r} in tokenizer.json"
    print(f"ids 0 to {pieces - 1:,} compared: piece, score, type; and in tokenizer.json")


def altered_lines(written: Path, text: Path) -> Iterator[str]:
    """The lines that do not come back exactly, or whose ids differ between the two tokenizers."""
    slow = spm.SentencePieceProcessor(str(written / "tokenizer.model"))
    fast = Tokenizer.from_file(str(written / "tokenizer.json"))
    lines = text.read_text(encoding="utf-8").split("\n")
    usable = [line for line in lines if not any(control in line for control in CONTROLS)]
    for start in range(0, len(usable), BATCH):
        part = usable[start : start + BATCH]
        ids = slow.encode(part)
        fast_ids = [e.ids for e in fast.encode_batch(part, add_special_tokens=False)]
        back = zip(slow.decode(ids), fast.decode_batch(ids), strict=True)
        for line, one, other, texts in zip(part, ids, fast_ids, back, strict=True):
            if one != other or texts != (line, line):
                yield f"{text.name}: {line[:60]!r} is {one[:8]} and {other[:8]}, and {texts!r:.120}"
    print(
        f"{text.name}: {len(usable):,} of {len(lines):,} lines there and back, in both tokenizers"
    )


def _meaning(model: spm.SentencePieceProcessor, i: int) -> tuple[object, ...]:
    kinds = (model.is_control(i), model.is_unknown(i), model.is_byte(i), model.is_unused(i))
    return model.id_to_piece(i), model.get_score(i), kinds


if __name__ == "__main__":
    sys.exit(main())
