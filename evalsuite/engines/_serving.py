"""Where a model is served, how it is asked, and what its server can do."""

from __future__ import annotations

from typing import Literal

import msgspec

from evalsuite.engines._loop import Loop
from evalsuite.engines._probe import Abilities, probe
from evalsuite.engines._server import Patience, Server
from evalsuite.engines._usage import Price
from evalsuite.errors import BadOption

AUTO, NONE, SERVER, ALWAYS = "auto", "none", "server", "server:always"
"""Chat templates as the user names them; the last is how a run names one that is used always."""

ChoiceProtocol = Literal["logprobs", "written"]


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model is served, and how it is asked.

    Attributes:
        key_variable: the environment variable with the key.
        concurrency: requests at once at most; how many it gets is found out.
        price: for counting money.
        choices: multiple choice by log-probabilities, or by the letter that the model writes,
            which is another protocol.
        tokenizer: a folder with the model's tokenizer; without one, a server that has its own is
            asked, text by text.
    """

    base_url: str
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 64
    price: Price | None = None
    choices: ChoiceProtocol = "logprobs"
    tokenizer: str = ""
    patience: Patience = Patience()

    def open(self) -> Server:
        """The server, in the running event loop."""
        if self.concurrency < 1:
            raise BadOption(f"{self.concurrency} requests at once", where="--concurrency")
        if not self.patience.seconds > 0:
            raise BadOption(f"{self.patience.seconds} seconds", where="--timeout")
        return Server(
            self.base_url, self.key_variable, most=self.concurrency, patience=self.patience
        )


def probe_server(model: str, options: ServerOptions) -> Abilities:
    """What a server can do; see :func:`evalsuite.engines._probe.probe`."""

    async def ask() -> Abilities:
        server = options.open()
        try:
            return await probe(server, model)
        finally:
            await server.close()

    loop = Loop()
    try:
        return loop.run(ask())
    finally:
        loop.close()


def template_name(abilities: Abilities, wanted: str) -> str:
    """How prompts reach the model: ``none``, ``server``, or ``server:always``.

    Plain protocols go to the completions endpoint as they are, all else through the server's own
    chat template where it has one. ``server:always`` is the chat for plain protocols, too: because
    the user says so, or because there is nothing else.

    Raises:
        BadOption: an unknown name, or an endpoint that the server does not have.
    """
    if wanted not in (AUTO, NONE, SERVER):
        raise BadOption(
            f"a server applies its own chat template, not {wanted!r}",
            where="--chat-template",
            hint="auto, none or server; vLLM takes another with its own --chat-template FILE",
        )
    if wanted == NONE and not abilities.completions:
        raise BadOption(
            "the server has no completions endpoint, so every prompt goes through its template",
            where="--chat-template none",
            hint="leave the option out",
        )
    if wanted == SERVER and not abilities.chat:
        raise BadOption(
            "the server has no chat endpoint, or the model no chat template",
            where="--chat-template server",
            hint="leave the option out for plain text",
        )
    if wanted == NONE or not abilities.chat:
        return NONE
    return ALWAYS if wanted == SERVER or not abilities.completions else SERVER
