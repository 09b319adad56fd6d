"""One request to an OpenAI-compatible server, answered token by token, with the time of each."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from evalsuite.engines._server import check_address
from evalsuite.errors import EngineUnavailable

KEY = "OPENAI_API_KEY"
_SHOWN = 200
"""Characters of a server's complaint."""

_VARIANTS: tuple[dict[str, Any], ...] = (
    {"stream_options": {"include_usage": True}, "extra_body": {"ignore_eos": True}},
    {"stream_options": {"include_usage": True}},
    {},
)
"""What is asked beside the answer, as far as a server takes it: token counts, and full length."""


class Question(msgspec.Struct, frozen=True):
    """A prompt, and how many tokens its answer may have."""

    prompt: str
    max_tokens: int


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came back; times in seconds of one clock.

    Attributes:
        due: when the request should have been sent; ``sent`` is when it was.
        arrivals: of each piece of text.
        prompt_tokens, answer_tokens: as the server counts them, else 0 and the number of pieces.
        error: why there is no answer; then the other numbers mean nothing.
    """

    due: float
    sent: float
    ended: float
    arrivals: tuple[float, ...] = ()
    prompt_tokens: int = 0
    answer_tokens: int = 0
    error: str = ""

    @property
    def ttft(self) -> float:
        """Seconds until the first piece of text."""
        return self.arrivals[0] - self.sent

    @property
    def tpot(self) -> float | None:
        """Mean seconds of each token after the first; None for an answer of one token."""
        if self.answer_tokens < 2:
            return None
        return (self.arrivals[-1] - self.arrivals[0]) / (self.answer_tokens - 1)

    @property
    def gaps(self) -> list[float]:
        """Seconds between pieces of text."""
        return [b - a for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)]


class Streamer:
    """Asks one model on one server; :meth:`connect` finds out how.

    The key is read from the environment and stands in no message.

    Raises:
        BadOption: an address that is none, or that carries a password.
        EngineUnavailable: the package ``openai`` is not installed.
    """

    def __init__(self, base_url: str, model: str, timeout: float) -> None:
        check_address(base_url)
        try:
            import openai
        except ImportError:
            raise EngineUnavailable(
                "asking a server needs the package openai, which is not here",
                where="--base-url",
                hint="pip install 'evalsuite[openai]'",
            ) from None
        self._key = os.environ.get(KEY, "").strip()
        self._client = openai.AsyncOpenAI(
            base_url=base_url, api_key=self._key or "none", max_retries=0, timeout=timeout
        )
        self.base_url = base_url
        self.model = model
        self._chat = False
        self._options: dict[str, Any] = {}

    async def connect(self) -> Reply:
        """Ask once, in whichever way the server takes; the answer to that.

        Raises:
            EngineUnavailable: it takes none, or nobody is there.
        """
        faults = []
        for self._chat in (False, True):
            for self._options in _VARIANTS:
                reply = await self.ask(Question("one two three four five six seven eight", 4))
                if not reply.error:
                    return reply
                faults.append(reply.error)
        raise EngineUnavailable(
            f"the server answers nothing: {faults[-1]}",
            where=f"{self.base_url}, model {self.model}",
            hint=f"start it, mend --base-url or --model, or set {KEY}",
        )

    async def ask(self, question: Question, due: float | None = None) -> Reply:
        """Ask and read to the end; a fault is a reply with ``error`` set."""
        sent = time.perf_counter()
        arrivals: list[float] = []
        usage = (0, 0)
        error = ""
        try:
            async for text, counted in self._pieces(question):
                if text:
                    arrivals.append(time.perf_counter())
                usage = counted or usage
            if not arrivals:
                error = "an answer without text"
        except Exception as fault:  # whatever a server sends or stops sending is its failure
            error = self._described(fault)
        return Reply(
            due=sent if due is None else due,
            sent=sent,
            ended=time.perf_counter(),
            arrivals=tuple(arrivals),
            prompt_tokens=usage[0],
            answer_tokens=usage[1] or len(arrivals),
            error=error,
        )

    async def _pieces(
        self, question: Question
    ) -> AsyncIterator[tuple[str, tuple[int, int] | None]]:
        common = {
            "model": self.model,
            "max_tokens": question.max_tokens,
            "temperature": 0.0,
            "stream": True,
            **self._options,
        }
        stream: Any
        client: Any = self._client
        if self._chat:
            messages = [{"role": "user", "content": question.prompt}]
            stream = await client.chat.completions.create(messages=messages, **common)
        else:
            stream = await client.completions.create(prompt=question.prompt, **common)
        async with stream:
            async for chunk in stream:
                text = ""
                for choice in chunk.choices or ():
                    text += (choice.delta.content if self._chat else choice.text) or ""
                usage = getattr(chunk, "usage", None)
                yield (
                    text,
                    (int(usage.prompt_tokens), int(usage.completion_tokens)) if usage else None,
                )

    def _described(self, fault: Exception) -> str:
        lines = str(fault).strip().splitlines()
        text = f"{type(fault).__name__}: {lines[0] if lines else ''}"
        if self._key:
            text = text.replace(self._key, "•••")
        return text[:_SHOWN]

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.close()
