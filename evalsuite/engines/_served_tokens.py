"""The tokenizer of a server, asked over the network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.card import Card
from evalsuite.engines._loop import Loop
from evalsuite.engines._probe import read_tokens
from evalsuite.engines._server import Refused, Server, Unanswered
from evalsuite.engines._tokens import Ids, Tokens, without_surrogates
from evalsuite.errors import BadOption, EngineFailed

_SPECIAL = {"prompt": "add_special_tokens", "content": "add_special"}
"""What vLLM and SGLang, and llama.cpp call it, by the name that they give the text."""


_TEXTS = (
    "a",
    "今天天气很好，我们去公园散步。\n答案：A",
    " The answer is 5.\n\n",
    "def f(x):\n    return x",
)
"""Texts that two tokenizers hardly cut alike."""


class ServedTokens(Tokens):
    """Text to token ids by a server; see :class:`Tokens`.

    Special tokens are known by their ids alone: a server does not say their texts. Where it puts
    nothing before a text, nothing can stand in for an empty prompt.

    Args:
        address, field: see :attr:`evalsuite.engines._probe.Abilities.tokenize`.
    """

    def __init__(self, loop: Loop, server: Server, model: str, address: str, field: str) -> None:
        self._loop, self._server, self._model = loop, server, model
        self._address, self._field = address, field
        self.size = 1 << 31
        self.bos = self.eos = ""
        self.eos_id = self.longest = None
        self.lead = self._find_lead()
        self._bos_id = self.start = self.lead[0] if self.lead else None

    def encode_halves(self, texts: Sequence[str]) -> list[tuple[Ids, Ids]]:
        """Ids of each text, without any special token added; all texts are asked about at once."""
        return [((), ids) for ids in self._loop.run(self._encode_all(texts))]

    def spelled(self, ids: Sequence[int]) -> str:
        """Ids as they are: the server is not asked for their texts."""
        return " ".join(map(str, ids))

    async def _encode_all(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        return list(await asyncio.gather(*(self._encode(text, special=False) for text in texts)))

    async def _encode(self, text: str, *, special: bool) -> tuple[int, ...]:
        if not text and not special:
            return ()
        body = {
            "model": self._model,
            self._field: without_surrogates(text),
            _SPECIAL[self._field]: special,
        }
        try:
            return tuple(await self._server.ask(self._address, body, read_tokens))
        except (Refused, Unanswered) as fault:
            raise EngineFailed(
                f"its tokenizer refuses a text: {fault}", where=self._address
            ) from None

    def _find_lead(self) -> tuple[int, ...]:
        async def both() -> tuple[tuple[int, ...], tuple[int, ...]]:
            return await self._encode("a", special=False), await self._encode("a", special=True)

        bare, dressed = self._loop.run(both())
        for at in range(len(dressed) - len(bare) + 1):
            if dressed[at : at + len(bare)] == bare:
                return tuple(dressed[:at])
        return ()


def open_tokens(folder: str, served: ServedTokens | None) -> Tokens:
    """A tokenizer on this machine, which spares a question for every text.

    Args:
        served: the server's own, to be compared with; None where it cannot be asked.

    Raises:
        BadCheckpoint: there is none in the folder.
        BadOption: it is another model's than the served one's, or it cannot be seen.
    """
    path = Path(folder).expanduser()
    tokens = Tokens(Checkpoint(path, folder, path.name, "", Card(), {}))
    if served is None:
        raise BadOption(
            "the server has no tokenizer to compare with, so it may be another model's",
            where=f"--tokenizer {folder}",
            hint="leave the option out: prompts then go as text",
        )
    for text, ours, theirs in zip(
        _TEXTS, tokens.encode(_TEXTS), served.encode(_TEXTS), strict=True
    ):
        if ours != theirs:
            raise BadOption(
                f"it is not the served model's: {text!a} is {ours} there and {theirs} on the server",
                where=f"--tokenizer {folder}",
                hint="name the folder that the server was started with",
            )
    if tokens.lead != served.lead:
        raise BadOption(
            f"it puts {tokens.lead} before a text, and the server {served.lead}",
            where=f"--tokenizer {folder}",
            hint="name the folder that the server was started with",
        )
    return tokens
