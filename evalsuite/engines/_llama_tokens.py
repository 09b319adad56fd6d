"""Tokenizers of a GGUF file: the one that lies beside it, and its own as llama.cpp carries it out."""

from __future__ import annotations

import codecs
import ctypes
from collections.abc import Sequence
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._llama_model import LlamaModel, library
from evalsuite.engines._tokens import Ids, Tokens
from evalsuite.errors import BadCheckpoint

_EACH_BYTE = "evalsuite.each_byte"
"""Error handler: one U+FFFD for each byte of no character, as :class:`Tokens` has it."""


class NeighbouringTokens(Tokens):
    """The tokenizer beside the file, once its tokens are seen to be those inside it.

    Raises:
        BadCheckpoint: it is another model's, or does not load.
    """

    def __init__(
        self, folder: Checkpoint, model: LlamaModel, where: str, *, trust_remote_code: bool
    ) -> None:
        super().__init__(folder, trust_remote_code=trust_remote_code)
        lib, vocabulary = library(), model.tokens
        if lib.llama_vocab_type(vocabulary) == lib.LLAMA_VOCAB_TYPE_NONE:
            return
        added = self._tokenizer.get_added_vocab()
        for text, token in self._tokenizer.get_vocab().items():
            if text in added:
                continue
            inside = _piece(lib, vocabulary, token) if token < model.vocabulary else None
            if inside != text:
                raise BadCheckpoint(
                    f"the tokenizer beside it is another model's: token {token} is"
                    f" {text!r} there and {inside!r} in the file",
                    where=where,
                    hint="put the file into a folder of its own, or beside its own tokenizer",
                )


class EmbeddedTokens(Tokens):
    """Text to token ids and back with the file's own vocabulary; see :class:`Tokens`.

    llama.cpp puts a SentencePiece tokenizer's space behind every special token that is spelled out
    in a text, and not only before its first word.

    Raises:
        BadCheckpoint: the file has no vocabulary.
    """

    def __init__(self, model: LlamaModel, where: str) -> None:
        self._lib = library()
        self._model = model
        if self._lib.llama_vocab_type(self._model.tokens) == self._lib.LLAMA_VOCAB_TYPE_NONE:
            raise BadCheckpoint(
                "it holds no tokenizer, and none lies beside it",
                where=where,
                hint="put tokenizer.json, or tokenizer.model with tokenizer_config.json, beside it",
            )
        self.size = 1 + max(filter(self._is_used, range(model.vocabulary)), default=-1)
        self._bos_id = _none_if_negative(self._lib.llama_vocab_bos(self._model.tokens))
        self.eos_id = _none_if_negative(self._lib.llama_vocab_eos(self._model.tokens))
        self.start = self._bos_id if self._bos_id is not None else self.eos_id
        self.bos, self.eos = map(self._name, (self._bos_id, self.eos_id))
        self.longest = None
        adds_bos = self._lib.llama_vocab_get_add_bos(self._model.tokens)
        self.lead = (self._bos_id,) if adds_bos and self._bos_id is not None else ()

    def encode_halves(self, texts: Sequence[str]) -> list[tuple[Ids, Ids]]:
        """Ids of each text; special tokens are not added, and those spelled out become their ids."""
        return [((), self._encode(text.encode("utf-8", "replace"))) for text in texts]

    def spelled(self, ids: Sequence[int]) -> str:
        """The text of these ids with special tokens written out, for people to read."""
        return self._text(list(ids), special=True)

    def _encode(self, text: bytes) -> tuple[int, ...]:
        room = len(text) + 8
        while True:
            ids = (ctypes.c_int32 * room)()
            count = self._lib.llama_tokenize(
                self._model.tokens, text, len(text), ids, room, False, True
            )
            if count >= 0:
                return tuple(ids[:count])
            room = -count

    def _decode(self, ids: list[int]) -> str:
        return self._text(ids, special=False)

    def _text(self, ids: list[int], *, special: bool) -> str:
        given = (ctypes.c_int32 * len(ids))(*ids)
        room = 16 * len(ids) + 64
        while True:
            text = ctypes.create_string_buffer(room)
            count = self._lib.llama_detokenize(
                self._model.tokens, given, len(ids), text, room, not special, special
            )
            if count >= 0:
                return text.raw[:count].decode("utf-8", _EACH_BYTE)
            room = -count

    def _is_used(self, token: int) -> bool:
        attributes = self._lib.llama_vocab_get_attr(self._model.tokens, token)
        return not attributes & self._lib.LLAMA_TOKEN_ATTR_UNUSED

    def _name(self, token: int | None) -> str:
        return "" if token is None else _piece(self._lib, self._model.tokens, token)


def _piece(lib: Any, vocabulary: Any, token: int) -> str:
    """How the vocabulary spells a token, in its own alphabet: ``▁the``, ``Ġthe``."""
    return str(lib.llama_vocab_get_text(vocabulary, token).decode("utf-8", "replace"))


def _replaced(fault: UnicodeError) -> tuple[str, int]:
    assert isinstance(fault, UnicodeDecodeError)
    return "\ufffd" * (fault.end - fault.start), fault.end


codecs.register_error(_EACH_BYTE, _replaced)


def _none_if_negative(token: int) -> int | None:
    return None if token < 0 else int(token)
