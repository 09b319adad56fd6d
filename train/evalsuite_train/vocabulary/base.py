"""A small SentencePiece BPE model trained from text with LLaMA's conventions."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator

import sentencepiece as spm

from evalsuite_train.errors import TrainError

# Printable ASCII gets its own pieces whatever the text holds: digits and code must never be bytes.
ASCII = "".join(map(chr, range(0x21, 0x7F)))
LONGEST_LINE = 16_384  # bytes; SentencePiece silently skips longer ones, so they are cut


def train_base(texts: Iterable[str], pieces: int, *, coverage: float = 0.9995) -> bytes:
    """Train a byte-pair model of exactly ``pieces`` pieces and return its ``tokenizer.model``.

    The conventions are those of LLaMA's tokenizer (Touvron et al. 2023, arXiv 2302.13971, section
    2.1): byte fallback, each digit a piece, a dummy prefix, no normalisation; unk 0, bos 1, eos 2.

    Args:
        pieces: the size of the vocabulary; 259 of them are the three controls and the 256 bytes.
        coverage: the share of the text's characters that get a piece of their own, 0.98 to 1.

    Raises:
        TrainError: no text, or a number of pieces that the text cannot fill or that cannot hold
            the text's characters.
    """
    if not 0.98 <= coverage <= 1:
        raise TrainError(
            f"coverage is {coverage}", where="training a vocabulary", hint="give 0.98 to 1"
        )
    seen = _Counted(texts)
    model = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(seen),
            model_writer=model,
            model_type="bpe",
            vocab_size=pieces,
            character_coverage=coverage,
            required_chars=ASCII,
            byte_fallback=True,
            add_dummy_prefix=True,
            remove_extra_whitespaces=False,
            normalization_rule_name="identity",
            split_digits=True,
            allow_whitespace_only_pieces=True,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            unk_surface=" ⁇ ",
            max_sentence_length=LONGEST_LINE,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as fault:
        raise _explained(fault, pieces, seen.lines) from fault
    return model.getvalue()


class _Counted:
    """The non-empty lines of the texts, each short enough for SentencePiece."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.lines = 0

    def __iter__(self) -> Iterator[str]:
        step = LONGEST_LINE // 4  # a character is at most four bytes
        for text in self.texts:
            for line in text.splitlines():
                # NUL ends a C string and a lone surrogate is no UTF-8: neither can be a piece.
                clean = re.sub("[\0\ud800-\udfff]", "", line)
                for start in range(0, len(clean), step):
                    self.lines += 1
                    yield clean[start : start + step]


def _explained(fault: Exception, pieces: int, lines: int) -> TrainError:
    where = f"training a vocabulary of {pieces} pieces on {lines} lines"
    if lines == 0:
        return TrainError("there is no text to train on", where=where, hint="check the texts' path")
    message = str(fault)
    highest = re.search(r"too high \(\d+\).*<= (\d+)", message)
    if highest:
        return TrainError(
            "the text is too small for so many pieces",
            where=where,
            hint=f"ask for at most {highest.group(1)} pieces, or give more text",
        )
    lowest = re.search(r"required_chars\. \d+ vs (\d+)", message)
    if lowest:
        return TrainError(
            "fewer pieces than the text has characters",
            where=where,
            hint=f"ask for at least {lowest.group(1)} pieces, or for a lower coverage: the rest are bytes",
        )
    return TrainError(
        f"SentencePiece failed: {message}", where=where, hint="change pieces or texts"
    )
