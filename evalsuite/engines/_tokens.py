"""Text to token ids and back, exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._cuts import encode_by_lines, may_be_cut
from evalsuite.engines._tokenizer_file import FileTokenizer, read_tokenizer
from evalsuite.engines._weights import quiet
from evalsuite.errors import BadCheckpoint

_SURROGATE = re.compile("[\ud800-\udfff]")
_DIRECT = {
    ("llama", "LlamaTokenizer"),
    ("qwen2", "Qwen2Tokenizer"),
    ("qwen3", "Qwen2Tokenizer"),
}
"""Architectures and classes of which it is known that ``AutoTokenizer`` follows the settings."""

_MANY = 8
"""Texts from which on it pays to look for lines that they share."""

_ANCHOR = 8
"""Tokens before an answer that are decoded with it, so that its first space is not lost."""


def without_surrogates(text: str) -> str:
    """Lone surrogates cannot be encoded; they become U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


Ids = tuple[int, ...]


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
        self._line_end: tuple[int, ...] | None = None

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of each text in one call of the tokenizer, without any special token added.

        Special tokens spelled out in a text become their ids, as chat templates need it.
        """
        return [head + tail for head, tail in self.encode_halves(texts)]

    def encode_halves(self, texts: Sequence[str]) -> list[tuple[Ids, Ids]]:
        """:meth:`encode` in two parts, the first of which texts with the same beginning share.

        It may be empty. Where two texts share it, their ids differ in the second part only.
        """
        if len(texts) < _MANY or not self._cuts:
            return [((), ids) for ids in self._encode_whole(texts)]
        if self._line_end is None:
            [self._line_end] = self._encode_lines(["\n"])
        return encode_by_lines(texts, self._encode_lines, self._line_end)

    @cached_property
    def _cuts(self) -> bool:
        """Whether lines may be tokenised one by one."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        return backend is not None and may_be_cut(backend)

    def _encode_lines(self, lines: Sequence[str]) -> list[tuple[int, ...]]:
        """What :meth:`_encode_whole` gives, without transformers' work for each text."""
        backend = self._tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        shared = self._ids.__getitem__
        encoded = backend.encode_batch_fast(list(lines), add_special_tokens=False)
        return [tuple(map(shared, found.ids)) for found in encoded]

    def _encode_whole(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        if not texts:
            return []
        with self._quietly():
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

    def _quietly(self) -> AbstractContextManager[None]:
        """Nothing to silence where transformers is not even imported."""
        return nullcontext() if isinstance(self._tokenizer, FileTokenizer) else quiet()

    def _find_lead(self) -> tuple[int, ...]:
        """Tokenizers do not say what they put in front, so one text is encoded both ways."""
        with self._quietly():
            bare = self._tokenizer("a", add_special_tokens=False)["input_ids"]
            dressed = self._tokenizer("a", add_special_tokens=True)["input_ids"]
        for at in range(len(dressed) - len(bare) + 1):
            if dressed[at : at + len(bare)] == bare:
                return tuple(dressed[:at])
        return ()


def _load(checkpoint: Checkpoint, trust_remote_code: bool) -> Any:
    plain = None if trust_remote_code else read_tokenizer(checkpoint.path, checkpoint.config)
    if plain is not None and len(plain) > len(plain.all_special_ids) and plain("a1")["input_ids"]:
        return plain
    kind = _class_of(checkpoint, trust_remote_code)
    try:
        with quiet():
            tokenizer = kind.from_pretrained(
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


def _class_of(checkpoint: Checkpoint, trust_remote_code: bool) -> Any:
    """The class that ``AutoTokenizer`` would choose, without its import where that is plain.

    ``AutoTokenizer`` knows every architecture, and its import takes four times as long.
    """
    import transformers

    try:
        file = checkpoint.path / "tokenizer_config.json"
        settings = json.loads(file.read_text(encoding="utf-8"))
        known = settings["tokenizer_class"].removesuffix("Fast")
        pair = checkpoint.config["model_type"], known
        own_way = "auto_map" in settings or trust_remote_code
        renamed = str(checkpoint.config.get("_name_or_path", "")).lower().startswith("deepseek-ai/")
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return transformers.AutoTokenizer
    if pair not in _DIRECT or own_way or renamed:
        return transformers.AutoTokenizer
    return getattr(transformers, known)


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
