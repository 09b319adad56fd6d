"""What a corpus is made of, by source and language, and drawing more or less of a source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import sentencepiece as spm
from rich.console import Console
from rich.table import Table

from evalsuite_train.data.ledger import Entry
from evalsuite_train.data.record import Dropped, Outcome, Record, Records

Tokens = Callable[[str], int]


class Share(msgspec.Struct):
    """What one source holds in one language.

    Attributes:
        tokens: counted with the recipe's tokenizer; None without one.
        buckets: quality bucket → records.
    """

    source: str
    language: str
    records: int = 0
    characters: int = 0
    tokens: int | None = None
    buckets: dict[str, int] = {}


def weighted(
    records: Records, weights: dict[str, float], seed: int, entry: Entry
) -> Iterator[Outcome]:
    """Draw each record as often as its source's weight says: 0.3 keeps 30%, 2.5 gives two or three copies.

    Whether a record is among the fraction depends on the seed and its place alone, so the draw is the same in any order.

    Args:
        entry: the step's account, where copies are counted.
    """
    for record in records:
        weight = weights.get(record.source, 1.0)
        copies = int(weight) + (_uniform(seed, record) < weight - int(weight))
        if copies == 0:
            yield Dropped(record, "down-sampled")
            continue
        for _ in range(copies):
            yield record
        entry.copied += copies - 1


def measure(records: Iterable[Record], tokens: Tokens | None = None) -> list[Share]:
    """The shares of a corpus, the largest first."""
    shares: dict[tuple[str, str], Share] = {}
    for record in records:
        share = shares.setdefault(
            (record.source, record.language), Share(record.source, record.language)
        )
        text = record.content
        share.records += 1
        share.characters += len(text)
        share.buckets[record.bucket] = share.buckets.get(record.bucket, 0) + 1
        if tokens is not None:
            share.tokens = (share.tokens or 0) + tokens(text)
    return sorted(
        shares.values(), key=lambda share: (-share.characters, share.source, share.language)
    )


def token_counter(model: Path) -> Tokens:
    """Tokens under a SentencePiece model that was already checked."""
    processor = spm.SentencePieceProcessor(model_file=str(model))
    return lambda text: len(processor.encode(text))


def show(shares: list[Share]) -> None:
    """Print the shares and the sum over each language."""
    table = Table("source", "language", "records", "characters", "share", "tokens")
    for column in table.columns[2:]:
        column.justify = "right"
    total = sum(share.characters for share in shares) or 1
    sums: dict[str, Share] = {}
    for share in shares:
        whole = sums.setdefault(share.language, Share("all", share.language))
        whole.records += share.records
        whole.characters += share.characters
        if share.tokens is not None:
            whole.tokens = (whole.tokens or 0) + share.tokens
    for index, share in enumerate([*shares, *sums.values()]):
        table.add_row(
            share.source,
            share.language,
            f"{share.records:,}",
            f"{share.characters:,}",
            f"{share.characters / total:.1%}",
            "–" if share.tokens is None else f"{share.tokens:,}",
            end_section=index == len(shares) - 1,
        )
    Console().print(table)


def _uniform(seed: int, record: Record) -> float:
    key = f"{seed}\0{record.source}\0{record.where}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64
