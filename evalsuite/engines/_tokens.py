"""Text to token ids and back, exactly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._weights import quiet
from evalsuite.errors import BadCheckpoint

_SURROGATE = re.compile("[\ud800-\udfff]")
_ANCHOR = 8
"""Tokens before an answer that are decoded with it, so that its first space is not lost."""


def without_surrogates(text: str) -> str:
    """Lone surrogates cannot be encoded; they become U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


class Tokens:
    """The checkpoint's tokenizer, in the few ways that an engine needs it.

    Attributes:
        size: number of tokens; embedding rows from here on are padding.
        lead: ids that the tokenizer puts before any text, mostly one BOS or nothing.
        bos, eos: their texts, empty where there is none.
        start: id that stands in for an empty prompt: BOS, else EOS, else None.
        eos_id: id of the end-of-sequence token, or None.
        longest: how many tokens the tokenizer says fit, or None.

    Raises:
        BadCheckpoint: the folder has no tokenizer, or one without a vocabulary.
    """

    def __init__(self, checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> None:
        self._tokenizer = _load(checkpoint, trust_remote_code)
        self.size = len(self._tokenizer)
        self.bos: str = self._tokenizer.bos_token or ""
        self.eos: str = self._tokenizer.eos_token or ""
        self._bos_id: int | None = self._tokenizer.bos_token_id
        self.eos_id: int | None = self._tokenizer.eos_token_id
        self.start = self._bos_id if self._bos_id is not None else self.eos_id
        longest = self._tokenizer.model_max_length
        self.longest: int | None = int(longest) if longest < 1 << 24 else None
        self._special = frozenset(self._tokenizer.all_special_ids)
        self._ids = list(range(self.size))
        self._byte_of = self._byte_tokens()
        self.lead = self._find_lead()

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of each text in one call of the tokenizer, without any special token added.

        Special tokens spelled out in a text become their ids, as chat templates need it.
        """
        if not texts:
            return []
        with quiet():
            encoded = self._tokenizer(
                list(texts),
                add_special_tokens=False,
                padding=False,
                truncation=False,
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
        shared = self._ids.__getitem__  # one int object per id, not one per occurrence
        return [tuple(map(shared, ids)) for ids in encoded]

    def with_lead(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """Put ``lead`` in front, unless the text begins with it, or with BOS, by itself.

        A template that writes BOS twice gets one: models have never seen two.
        """
        while len(ids) > 1 and ids[0] == ids[1] == self._bos_id:
            ids = ids[1:]
        if ids[: len(self.lead)] == self.lead or (ids and ids[0] == self._bos_id):
            return ids
        return self.lead + ids

    def text_after(self, prompt: Sequence[int], generated: Sequence[int]) -> str:
        """What ``generated`` adds to the text of ``prompt``; special tokens are left out.

        Decoded alone, an answer would lose the space that SentencePiece puts before its first word.
        """
        anchor = list(prompt[-_ANCHOR:])
        before = self._decode(anchor)
        whole = self._decode([*anchor, *generated])
        if whole.startswith(before):
            return whole[len(before) :]
        return self._decode(list(generated))

    def spelled(self, ids: Sequence[int]) -> str:
        """The text of these ids with special tokens written out, for people to read."""
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def _decode(self, ids: list[int]) -> str:
        broken = self._broken_bytes(ids) if self._byte_of else set()
        if not broken:
            text: str = self._tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            return text
        pieces = [
            "\ufffd" if at in broken else self._tokenizer.convert_ids_to_tokens(i)
            for at, i in enumerate(ids)
            if i not in self._special
        ]
        return str(self._tokenizer.backend_tokenizer.decoder.decode(pieces))

    def _broken_bytes(self, ids: list[int]) -> set[int]:
        """Places of byte tokens that belong to no character.

        The decoder would turn the whole run of bytes around one of them into U+FFFD, a line end
        included, and a stop string would be missed.
        """
        places = [at for at, i in enumerate(ids) if i not in self._special]
        broken: set[int] = set()
        run: list[int] = []
        for at in [*places, -1]:
            if at >= 0 and ids[at] in self._byte_of:
                run.append(at)
                continue
            data = bytes(self._byte_of[ids[place]] for place in run)
            broken.update(run[offset] for offset in _undecodable(data))
            run = []
        return broken

    def _byte_tokens(self) -> dict[int, int]:
        """Id → byte of the byte-fallback tokens ``<0x00>`` … ``<0xFF>``; empty if there are none."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None or backend.decoder is None:
            return {}
        found = {backend.token_to_id(f"<0x{byte:02X}>"): byte for byte in range(256)}
        return {i: byte for i, byte in found.items() if i is not None}

    def _find_lead(self) -> tuple[int, ...]:
        """Tokenizers do not say what they put in front, so one text is encoded both ways."""
        with quiet():
            bare = self._tokenizer("a", add_special_tokens=False)["input_ids"]
            dressed = self._tokenizer("a", add_special_tokens=True)["input_ids"]
        for at in range(len(dressed) - len(bare) + 1):
            if dressed[at : at + len(bare)] == bare:
                return tuple(dressed[:at])
        return ()


def _load(checkpoint: Checkpoint, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                str(checkpoint.path), trust_remote_code=trust_remote_code, local_files_only=True
            )
            whole = len(tokenizer) > len(tokenizer.all_special_ids) and tokenizer("a1")["input_ids"]
    except Exception as fault:
        lines = str(fault).strip().splitlines()
        raise BadCheckpoint(
            f"its tokenizer does not load: {type(fault).__name__}: {lines[0] if lines else ''}",
            where=str(checkpoint.path),
            hint="expected tokenizer.json, or tokenizer.model with tokenizer_config.json",
        ) from None
    if not whole:
        raise BadCheckpoint(
            "its tokenizer has no vocabulary",
            where=str(checkpoint.path),
            hint="save the tokenizer beside the weights: tokenizer.json or tokenizer.model",
        )
    return tokenizer


def _undecodable(data: bytes) -> list[int]:
    """Offsets of the bytes that are part of no UTF-8 character."""
    bad, at = [], 0
    while at < len(data):
        for length in (1, 2, 3, 4):
            try:
                data[at : at + length].decode()
            except UnicodeDecodeError:
                continue
            at += length
            break
        else:
            bad.append(at)
            at += 1
    return bad
