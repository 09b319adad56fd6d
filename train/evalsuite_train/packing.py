"""Documents as token rows: ``<s> document </s>`` end to end, any micro-batch by its number.

The documents are tokenised once into a cache file named by the hash of its data and tokenizer;
training reads from it through a memory map, so memory does not grow with the data.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from evalsuite_train.checkpoint import TOKENIZER_FILES, load_tokenizer
from evalsuite_train.errors import BadData, TrainError
from evalsuite_train.loss import IGNORED, Batch

FORMAT = "packed documents 1"
_SURROGATE = re.compile("[\ud800-\udfff]")
AT_ONCE = 1000  # documents tokenised in one call


class Packed:
    """Tokenised documents: ``tokens[offsets[i]:offsets[i + 1]]`` is document ``i`` with BOS and EOS.

    Args:
        tokens: all ids, one dimension, uint16 or uint32.
        offsets: where each document starts, and the end of the last; int64.
        bos: the id that every document starts with.
        key: the hash that names data and tokenizer.
    """

    def __init__(
        self, tokens: NDArray[Any], offsets: NDArray[np.int64], bos: int, key: str
    ) -> None:
        self.tokens, self.offsets, self.bos, self.key = tokens, offsets, bos, key

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def learnt(self) -> int:
        """Tokens of one epoch that are learnt: all but each document's BOS."""
        return int(self.offsets[-1]) - len(self)

    def order(self, epoch: int, seed: int) -> NDArray[np.int64]:
        """The documents in the order of an epoch, shuffled anew for each."""
        return np.random.default_rng((seed, epoch)).permutation(len(self))

    def batches(
        self, first: int, *, rows: int, length: int, seed: int, separate: bool = False
    ) -> Iterator[Batch]:
        """The endless stream of micro-batches from number ``first`` on.

        One epoch follows the other without a seam; every token is the target once an epoch, but
        for BOS, which nothing in front of it can foretell.

        Args:
            rows: rows of a micro-batch.
            length: tokens of a row.
            separate: positions and attention begin anew at every document.
        """
        size, whole = rows * length, int(self.offsets[-1])
        epoch, inside = divmod(first * size, whole)
        reader = self._read(epoch, inside, seed)
        row = np.empty(0, np.int64)
        while True:
            parts, have = [row], len(row)
            while have < size + 1:
                parts.append(next(reader))
                have += len(parts[-1])
            row = np.concatenate(parts)
            ids = torch.from_numpy(row[: size + 1].copy())
            row = row[size:]
            inputs, targets = ids[:-1].view(rows, length), ids[1:].clone().view(rows, length)
            targets[targets == self.bos] = IGNORED
            yield Batch(inputs, targets, _positions(inputs, self.bos) if separate else None)

    def _read(self, epoch: int, inside: int, seed: int) -> Iterator[NDArray[np.int64]]:
        """Documents in order from token ``inside`` of an epoch on."""
        lengths = np.diff(self.offsets)
        while True:
            order = self.order(epoch, seed)
            ends = np.cumsum(lengths[order])
            start = int(np.searchsorted(ends, inside, side="right"))
            for number in range(start, len(order)):
                document = order[number]
                begin, end = self.offsets[document], self.offsets[document + 1]
                cut = inside - int(ends[number] - lengths[document]) if number == start else 0
                yield self.tokens[begin + cut : end].astype(np.int64)
            epoch, inside = epoch + 1, 0


def _positions(inputs: torch.Tensor, bos: int) -> torch.Tensor:
    """0, 1, 2 … in every row, starting again at each BOS; shape as ``inputs``."""
    index = torch.arange(inputs.shape[1]).expand_as(inputs)
    starts = torch.where(inputs == bos, index, 0).cummax(1).values
    return index - starts


def pack(data: Path, tokenizer: Path, cache: Path) -> Packed:
    """Tokenise the documents of ``data``, or find them in ``cache``.

    Args:
        data: a JSONL file with a ``text`` in every row, or a folder of such files.
        tokenizer: a tokenizer folder.
        cache: the folder for the token files.

    Raises:
        BadData: no documents, or a row that is none, named by file and line.
    """
    files = sorted(data.glob("*.jsonl")) if data.is_dir() else [data]
    if not files:
        raise BadData("no .jsonl file in this folder", where=str(data))
    key = _key(files, tokenizer)
    tokens, offsets, card = (cache / f"{key}.{end}" for end in ("tokens", "offsets.npy", "json"))
    if not card.is_file():
        _tokenise(files, tokenizer, tokens, offsets, card)
    facts = json.loads(card.read_text(encoding="utf-8"))
    return Packed(
        np.memmap(tokens, dtype=facts["dtype"], mode="r"),
        np.load(offsets, mmap_mode="r"),
        facts["bos"],
        key,
    )


def _key(files: list[Path], tokenizer: Path) -> str:
    digest = hashlib.sha256(FORMAT.encode())
    for path in (*files, *(tokenizer / name for name in TOKENIZER_FILES)):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def _tokenise(files: list[Path], folder: Path, tokens: Path, offsets: Path, card: Path) -> None:
    """Write the token file, the offsets and, last, the card that says that both are whole."""
    tokenizer = load_tokenizer(folder)
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise BadData("the tokenizer has no BOS or no EOS", where=str(folder))
    kind = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    # Of several processes each writes files of its own; they are equal, and the last ones stand.
    new = {
        path: path.with_name(f"{path.name}.{os.getpid()}.new") for path in (tokens, offsets, card)
    }
    try:
        tokens.parent.mkdir(parents=True, exist_ok=True)
        with new[tokens].open("wb") as file:
            ends = _write_tokens(files, tokenizer, kind, file)
        if len(ends) == 1:
            raise BadData("no documents", where=", ".join(map(str, files)))
        with new[offsets].open("wb") as file:
            np.save(file, np.array(ends, np.int64))
        facts = {"dtype": kind.name, "bos": tokenizer.bos_token_id}
        new[card].write_text(json.dumps(facts) + "\n", encoding="utf-8")
        for path, temporary in new.items():
            temporary.replace(path)
    except OSError as fault:
        raise TrainError(
            f"cannot write the token cache: {fault.strerror or fault}", where=str(tokens.parent)
        ) from fault
    finally:
        for temporary in new.values():
            if temporary.exists():
                temporary.unlink()


def _write_tokens(
    files: list[Path], tokenizer: Any, kind: np.dtype[Any], file: BinaryIO
) -> array[int]:
    """Write every document's ids, BOS and EOS around them; returns where each ends, 0 in front."""
    ends = array("q", [0])
    for texts in _grouped(_documents(files)):
        # Text that spells "</s>" stays text: BOS and EOS are set here and nowhere else.
        encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)
        for ids in encoded["input_ids"]:
            row = np.array([tokenizer.bos_token_id, *ids, tokenizer.eos_token_id], kind)
            file.write(row.tobytes())
            ends.append(ends[-1] + len(row))
    file.flush()
    os.fsync(file.fileno())
    return ends


def _grouped(texts: Iterator[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for text in texts:
        group.append(text)
        if len(group) == AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _documents(files: list[Path]) -> Iterator[str]:
    for path in files:
        try:
            with path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield _text(line, f"{path}:{number}")
        except (OSError, UnicodeDecodeError) as fault:
            raise BadData(f"cannot read the documents: {fault}", where=str(path)) from fault


def _text(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise BadData("not JSON", where=where, hint='one {"text": …} a line') from None
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise BadData("no text in this row", where=where, hint='a row is {"text": …}, not empty')
    if _SURROGATE.search(text):
        raise BadData("half a surrogate pair in the text", where=where, hint="repair its encoding")
    return text
