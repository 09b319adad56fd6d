"""A tokenizer that ``tokenizer.json`` describes in full, read without transformers.

Importing transformers takes longer than reading a small model. Where its ``AutoTokenizer`` would do
nothing but read that file, the library ``tokenizers``, which it uses for that, gives the same. What
else it may do (rebuild the tokenizer from its vocabulary, add tokens, run a checkpoint's code) is
left to it: :func:`read_tokenizer` says None then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Those that take the file as it is."""

_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
_KNOWN = frozenset(
    {
        *_NAMED,
        "tokenizer_class",
        "model_max_length",
        "add_bos_token",
        "add_eos_token",
        "added_tokens_decoder",
        "additional_special_tokens",
        "extra_special_tokens",
        "clean_up_tokenization_spaces",
        "chat_template",
        "backend",
        "is_local",
        "local_files_only",
        "model_input_names",
        "padding_side",
    }
)
"""Settings that are understood here, or change neither ids nor texts."""

_LARGEST = 100_000
"""Tokens from which on transformers may mend a vocabulary's pattern of words."""

_ENDLESS = 10**30
"""What transformers says of a tokenizer without a longest text."""


class FileTokenizer:
    """What :class:`evalsuite.engines._tokens.Tokens` uses of transformers' tokenizers.

    Attributes:
        backend_tokenizer: the tokenizer of the library ``tokenizers``.
        model_max_length: tokens of the longest text.
    """

    def __init__(self, backend: Any, settings: Mapping[str, Any]) -> None:
        self.backend_tokenizer = backend
        self.model_max_length: int = settings.get("model_max_length") or _ENDLESS
        self._names = {name: _content(settings.get(name)) for name in _NAMED}
        self.bos_token, self.eos_token = self._names["bos_token"], self._names["eos_token"]
        self.bos_token_id, self.eos_token_id = self._id("bos_token"), self._id("eos_token")
        self.all_special_ids = [i for n in _NAMED if (i := self._id(n)) is not None]
        self._adds: bool | None = None
        if "add_bos_token" in settings or "add_eos_token" in settings:
            self._adds = bool(settings.get("add_bos_token"))

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def __call__(
        self, texts: str | list[str], *, add_special_tokens: bool = True, **_: Any
    ) -> dict[str, Any]:
        """``input_ids`` of a text or of each; of what is added, only what comes first."""
        of_file = add_special_tokens and self._adds is None
        listed = [texts] if isinstance(texts, str) else texts
        encoded = self.backend_tokenizer.encode_batch(listed, add_special_tokens=of_file)
        lead = [self.bos_token_id] if add_special_tokens and self._adds else []
        ids = [[*lead, *one.ids] for one in encoded]
        return {"input_ids": ids[0] if isinstance(texts, str) else ids}

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False, **_: Any) -> str:
        """The text of these ids."""
        text: str = self.backend_tokenizer.decode(
            list(ids), skip_special_tokens=skip_special_tokens
        )
        return text

    def convert_ids_to_tokens(self, token: int) -> str:
        """How the vocabulary spells a token."""
        spelled: str = self.backend_tokenizer.id_to_token(token)
        return spelled

    def get_vocab(self) -> dict[str, int]:
        """Text → id, added tokens included."""
        vocabulary: dict[str, int] = self.backend_tokenizer.get_vocab(with_added_tokens=True)
        return vocabulary

    def get_added_vocab(self) -> dict[str, int]:
        """Text → id of the added tokens."""
        added = self.backend_tokenizer.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items()}

    def _id(self, name: str) -> int | None:
        text = self._names[name]
        found: int | None = None if text is None else self.backend_tokenizer.token_to_id(text)
        return found


def read_tokenizer(folder: Path, config: Mapping[str, Any]) -> FileTokenizer | None:
    """The tokenizer of a checkpoint's folder; None where transformers would do more than read it.

    Args:
        config: the checkpoint's ``config.json``. Only LLaMA's are known to take any tokenizer.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        if config.get("model_type") != "llama" or not _understood(settings, folder):
            return None
        backend = Tokenizer.from_file(str(file))
    except Exception:  # whatever it is, transformers says it better
        return None
    ready = backend.truncation is None and backend.padding is None
    if not ready or backend.get_vocab_size() > _LARGEST or not _all_there(backend, settings):
        return None
    return FileTokenizer(backend, settings)


def _understood(settings: Any, folder: Path) -> bool:
    if settings.get("tokenizer_class") not in _CLASSES or settings.keys() - _KNOWN:
        return False
    if settings.get("additional_special_tokens") or settings.get("extra_special_tokens"):
        return False
    if settings.get("add_bos_token") and not settings.get("bos_token"):
        return False
    older = folder / "special_tokens_map.json"
    named = json.loads(older.read_text(encoding="utf-8")) if older.is_file() else {}
    return (
        all(
            name in _NAMED and _content(token) == _content(settings.get(name))
            for name, token in named.items()
        )
        and not (folder / "added_tokens.json").exists()
    )


def _all_there(backend: Any, settings: Mapping[str, Any]) -> bool:
    """Whether every token that the settings name is in the file, and special or not as they say."""
    added = {
        number: token.__getstate__() for number, token in backend.get_added_tokens_decoder().items()
    }
    special = {token["content"] for token in added.values() if token["special"]}
    named = [_content(settings.get(name)) for name in _NAMED]
    listed = settings.get("added_tokens_decoder", {}).items()
    return all(text is None or text in special for text in named) and all(
        added.get(int(number)) == token for number, token in listed
    )


def _content(token: Any) -> str | None:
    """The text of a token that is written as a text or as an object."""
    text: str | None = token["content"] if isinstance(token, dict) else token
    return text
