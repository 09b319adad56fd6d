"""Exact and near duplicates: the first copy stays."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from evalsuite_train.data.language import words_of
from evalsuite_train.data.record import Dropped, Outcome, Record, Records

PERMUTATIONS = 128
CHARACTERS, WORDS = 4, 3  # a shingle's length in Chinese characters, in English words
FEWEST = 8
"""Shingles. The Jaccard similarity of fewer says little; such short texts are compared exactly only."""

BLOCK = 4096
Shingles = NDArray[np.uint32]


def exact(records: Records) -> Iterator[Outcome]:
    """Drop records that say the same but for white space, case, width and punctuation.

    Memory: a set of 16-byte digests, about 85 bytes a record kept.
    """
    seen: set[bytes] = set()
    for record in records:
        digest = hashlib.blake2b(folded(record.content).encode("utf-8"), digest_size=16).digest()
        if digest in seen:
            yield Dropped(record, "exact duplicate")
        else:
            seen.add(digest)
            yield record


def folded(text: str) -> str:
    """The letters and digits alone; where there are none, the text itself."""
    letters = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())
    return letters or text


def near(records: Records, threshold: float, folder: Path) -> Iterator[Outcome]:
    """Drop records whose shingles resemble an earlier one's by at least ``threshold`` (Jaccard).

    MinHash with banding (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3), signatures and
    bands from datasketch. Its own index holds about 5 KB a record in memory, so the bands stand in an SQLite file
    and the signatures, which confirm a candidate, beside them: memory stays the same for any number of records.

    Args:
        folder: where the index stands while this runs.
    """
    # Missing a pair weighs nine times as much as looking at one in vain: the signatures decide.
    bands = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.1, 0.9))
    rows, count = bands.r, bands.b
    path = folder / "near.sqlite"
    path.unlink(missing_ok=True)
    index = sqlite3.connect(path)
    try:
        # It is deleted at the end and made anew after a crash, so it need not survive one.
        index.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;"
            "CREATE TABLE band (hash INTEGER, record INTEGER, PRIMARY KEY (hash, record)) WITHOUT ROWID;"
            "CREATE TABLE signature (record INTEGER PRIMARY KEY, hashes BLOB);"
        )
        for number, record in enumerate(records):
            shingles = shingles_of(record)
            if len(shingles) < FEWEST:
                yield record
                continue
            hashes = signature(shingles)
            keys = band_keys(hashes, count, rows)
            if _resembles(index, keys, hashes, threshold):
                yield Dropped(record, "near duplicate")
                continue
            index.execute("INSERT INTO signature VALUES (?, ?)", (number, hashes.tobytes()))
            index.executemany("INSERT INTO band VALUES (?, ?)", [(k, number) for k in keys])
            yield record
    finally:
        index.close()
        path.unlink(missing_ok=True)


def _resembles(
    index: sqlite3.Connection, keys: list[int], hashes: NDArray[np.uint32], threshold: float
) -> bool:
    """Whether a record that shares a band also shares enough of the signature."""
    marks = ",".join("?" * len(keys))
    query = f"SELECT hashes FROM signature WHERE record IN (SELECT record FROM band WHERE hash IN ({marks}))"
    return any(
        np.mean(np.frombuffer(other, np.uint32) == hashes) >= threshold
        for (other,) in index.execute(query, keys)
    )


def shingles_of(record: Record) -> Shingles:
    """Hashes ``[n]`` of the distinct runs of characters (Chinese) or words (English) in a record."""
    text = unicodedata.normalize("NFKC", record.content).casefold()
    if record.language == "zh":
        letters = re.sub(r"[\W_]+", "", text)
        units = np.frombuffer(letters.encode("utf-32-le"), np.uint32).astype(np.uint64)
        length = CHARACTERS
    else:
        units = np.fromiter((zlib.crc32(w.encode()) for w in words_of(text)), np.uint64)
        length = WORDS
    if len(units) < length:
        return np.zeros(0, np.uint32)
    mixed = np.zeros(len(units) - length + 1, np.uint64)
    for offset in range(length):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + units[offset : offset + len(mixed)]
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return np.unique((mixed >> np.uint64(32)).astype(np.uint32))


_empty: MinHash | None = None


def signature(shingles: Shingles) -> NDArray[np.uint32]:
    """The MinHash signature ``[128]``."""
    global _empty
    if (
        _empty is None
    ):  # drawing the permutations anew for each record would take longer than hashing
        _empty = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
    sketch = _empty.copy()
    for start in range(
        0, len(shingles), BLOCK
    ):  # a block of BLOCK × 128 hashes is what memory holds
        sketch.update_batch(shingles[start : start + BLOCK].tolist())
    return np.asarray(sketch.hashvalues, np.uint32)


def band_keys(hashes: NDArray[np.uint32], bands: int, rows: int) -> list[int]:
    """One 63-bit key a band, different for the same rows in another band."""
    table = hashes[: bands * rows].reshape(bands, rows).astype(np.uint64)
    keys = np.arange(1, bands + 1, dtype=np.uint64)
    for column in table.T:
        keys = (keys ^ column) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return [int(key) for key in keys >> np.uint64(1)]
