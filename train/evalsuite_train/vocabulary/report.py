"""What an extended vocabulary gains: tokens per character, before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import sentencepiece as spm
from rich.console import Console
from rich.table import Table


class Gain(msgspec.Struct, frozen=True):
    """One text's length under the old and the new vocabulary.

    Attributes:
        characters: Unicode code points, white space included.
        before, after: tokens, the dummy prefix included, BOS not.
        bytes_before, bytes_after: how many of the tokens are single bytes (fallback).
    """

    name: str
    characters: int
    before: int
    after: int
    bytes_before: int
    bytes_after: int

    @property
    def ratios(self) -> tuple[float, float]:
        """Tokens per character, before and after."""
        return self.before / self.characters, self.after / self.characters


def gain(name: str, texts: Iterable[str], old: bytes, new: bytes) -> Gain | None:
    """Count ``texts`` under both models; None where there is nothing to count."""
    models = [spm.SentencePieceProcessor(model_proto=model) for model in (old, new)]
    is_byte = [[model.is_byte(i) for i in range(model.get_piece_size())] for model in models]
    characters, tokens, bytes_ = 0, [0, 0], [0, 0]
    for text in texts:
        characters += len(text)
        for side, model in enumerate(models):
            ids = model.encode(text)
            tokens[side] += len(ids)
            bytes_[side] += sum(is_byte[side][i] for i in ids)

    if characters == 0:
        return None
    return Gain(name, characters, tokens[0], tokens[1], bytes_[0], bytes_[1])


def show(pieces: Mapping[str, int], gains: list[Gain]) -> None:
    """Print what was added and what it gained."""
    console = Console()
    console.print(", ".join(f"{key} {count:,}" for key, count in pieces.items()))
    table = Table("text", "characters", "tokens/char before", "after", "bytes before", "after")
    for entry in gains:
        before, after = entry.ratios
        table.add_row(
            entry.name,
            f"{entry.characters:,}",
            f"{before:.4f}",
            f"{after:.4f}",
            f"{entry.bytes_before / max(entry.before, 1):.1%}",
            f"{entry.bytes_after / max(entry.after, 1):.1%}",
        )
    if gains:
        console.print(table)
