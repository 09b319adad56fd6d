"""Asking an OpenAI-compatible server, patiently and not too much at once."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import os
import random
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from evalsuite.engines._concurrency import Limiter
from evalsuite.errors import BadOption, EngineFailed, EngineUnavailable

T = TypeVar("T")

LONGEST_WAIT = 300.0
"""Seconds; a server that asks for more is taken at this."""

_TRANSIENT = frozenset({408, 409, 425, 429})
_LOAD = frozenset({408, 429, 500, 502, 503, 504, 529})
_TOO_LONG = re.compile(
    r"context_length|context length|maximum context|max_model_len|maximum model length|n_ctx"
    r"|context (?:size|window)|max_total_tokens|max_input_length|exceed_context",
    re.IGNORECASE,
)
_PROBES = 3
"""Attempts of a question whether the server can do something."""

_IN_A_ROW = 10
"""Requests that may stay unanswered, with no answer to any other in between, before the run ends."""

_SHORTEST_KEY = 8
"""Shorter ones are placeholders for servers without keys, and may be a part of any text."""


class Passing(Exception):
    """A fault that may pass.

    Attributes:
        wanted: the server's Retry-After in seconds.
        load: the server had too much to do.
        faulty: the server did answer, though with nothing that is of use.
    """

    def __init__(
        self,
        what: str,
        wanted: float | None = None,
        *,
        load: bool = False,
        faulty: bool = True,
    ) -> None:
        super().__init__(what)
        self.wanted = wanted
        self.load = load
        self.faulty = faulty


class Refused(Exception):
    """The server will never answer this request; it may well answer others.

    Attributes:
        status: of HTTP.
        too_long: because it does not fit the context.
    """

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status
        self.too_long = status in (400, 413, 422, 500) and bool(_TOO_LONG.search(what))


class Unanswered(Exception):
    """No usable answer in all attempts, though the server is there."""


class Patience(NamedTuple):
    """How long a fault may last.

    Attributes:
        attempts: how often one request is sent.
        first: seconds before the second attempt; doubled for each further one.
        most: seconds before an attempt at most.
        seconds: time limit of one attempt.
    """

    attempts: int = 8
    first: float = 0.5
    most: float = 60.0
    seconds: float = 300.0


class Server:
    """One server, its key and the requests under way. Belongs to one event loop.

    The key is read from the environment and never written: not to a file, and not into a message,
    even where the server sends it back.

    Args:
        base_url: such as ``http://127.0.0.1:8000/v1``; without a user, password or query.
        key_variable: the environment variable with the key; where it is not set, none is sent.
        most: requests at once at most.

    Attributes:
        retries: how many requests were sent again.

    Raises:
        BadOption: an address that is none.
        EngineUnavailable: the package ``openai`` is not installed.
    """

    def __init__(self, base_url: str, key_variable: str, *, most: int, patience: Patience) -> None:
        self.address = check_address(base_url)
        self._key = os.environ.get(key_variable, "").strip()
        self._key_variable = key_variable
        self.limiter = Limiter(most)
        self._patience = patience
        self._random = random.Random()
        self._unanswered = 0
        self.retries = 0
        self._stop = asyncio.Event()
        self._client = _client(self.address, self._key, patience.seconds)

    @property
    def root(self) -> str:
        """The address without ``/v1``, where servers have what is not OpenAI's."""
        return self.address.removesuffix("/v1")

    @property
    def stopping(self) -> bool:
        """Nothing is sent again; what is under way may end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Send nothing again, and end every wait before it."""
        self._stop.set()

    def go_on(self) -> None:
        """The opposite."""
        self._stop.clear()

    async def get(self, path: str) -> Any:
        """The JSON behind a path, as a question of the probe; see :meth:`ask`."""
        return await self.ask(path, None, lambda answer: answer, probing=True)

    async def ask(
        self, path: str, body: Any, read: Callable[[Any], T], *, probing: bool = False
    ) -> T:
        """Send a request until it is answered; pauses between attempts grow, with jitter.

        Args:
            path: below ``base_url``, or a whole address.
            body: JSON to post; None to get.
            read: makes something of the JSON that comes back, and raises :class:`Passing` where
                it makes no sense.
            probing: it is only asked whether the server can do this, so the patience is short.

        Raises:
            Refused: the server does not want this request.
            Unanswered: no usable answer in all attempts.
            EngineUnavailable: the server does not accept the key, or the account is empty.
            EngineFailed: the server is gone, or one request after the other stays unanswered.
        """
        fault = Passing("nothing was sent")
        tries = min(_PROBES, self._patience.attempts) if probing else self._patience.attempts
        for attempt in range(tries):
            if attempt:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), self._wait(attempt, fault.wanted))
                if self.stopping:
                    break
                self.retries += 1
            try:
                answer = await self._once(path, body, read)
            except Passing as passing:
                fault = passing
                continue
            except Refused:
                self._unanswered = 0
                raise
            self._unanswered = 0
            return answer
        if self.stopping or not await self._is_lost(fault, probing=probing):
            raise Unanswered(f"no usable answer in {tries} attempts, at last: {fault}")
        raise EngineFailed(
            f"the server does not answer any more: {fault}",
            where=self.address,
            hint="what was finished is kept; start the server again and repeat the same command",
        )

    def redact(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self._key, "***") if len(self._key) >= _SHORTEST_KEY else text

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _is_lost(self, fault: Passing, *, probing: bool) -> bool:
        """Whether it is the server, and not this one request, that is at fault."""
        if probing:
            return not fault.faulty
        self._unanswered += 1
        if self._unanswered > _IN_A_ROW:
            return True
        if fault.load or fault.faulty:
            return False
        try:
            await self._once("models", None, lambda answer: answer)
        except Passing as silence:
            return not silence.faulty
        except (Refused, EngineUnavailable):
            return False
        return False

    async def _once(self, path: str, body: Any, read: Callable[[Any], T]) -> T:
        began = await self.limiter.enter()
        try:
            answer = read(json.loads(self.redact(await self._send(path, body))))
            self.limiter.answered(path, began)
        except Passing as fault:
            if fault.load:
                self.limiter.refused(began, fault.wanted)
            raise
        except (ValueError, RecursionError):  # not JSON, such as a proxy's page
            raise Passing("the answer is not JSON") from None
        finally:
            await self.limiter.leave()
        return answer

    async def _send(self, path: str, body: Any) -> str:
        import openai

        try:
            if body is None:
                content: bytes = await self._client.get(path, cast_to=bytes)
            else:
                content = await self._client.post(path, body=body, cast_to=bytes)
        except openai.APIStatusError as fault:
            raise self._judged(fault) from None
        except openai.APITimeoutError:
            seconds = self._patience.seconds
            raise Passing(f"no answer within {seconds:g} s", load=True, faulty=False) from None
        except openai.APIConnectionError as fault:
            what = self._clean(f"no connection: {fault.__cause__ or fault}")
            raise Passing(what, faulty=False) from None
        return content.decode("utf-8", "replace")

    def _judged(self, fault: Any) -> Exception:
        """What a status of 400 and more means."""
        status: int = fault.status_code
        said = self._clean(f"HTTP {status}: {_message(fault)}")
        if status in (401, 403):
            return EngineUnavailable(
                f"the server does not accept the key: {said}",
                where=self.address,
                hint=f"set the environment variable {self._key_variable} to a valid key"
                if self._key
                else f"the environment variable {self._key_variable} is not set; see --key-variable",
            )
        if status == 402 or "insufficient_quota" in (fault.code, fault.type):
            hint = "fill it up and repeat the same command: what was finished is kept"
            return EngineUnavailable(f"the account is empty: {said}", where=self.address, hint=hint)
        refused = Refused(said, status)
        if refused.too_long:
            return refused
        if status >= 500 or status in _TRANSIENT:
            faulty = status == 500
            return Passing(said, _asked_for(fault), load=status in _LOAD, faulty=faulty)
        return refused

    def _clean(self, text: str) -> str:
        """One line of a stranger's text, without the key and what a terminal would act on."""
        plain = "".join(c if c.isprintable() else " " for c in self.redact(text))
        return " ".join(plain.split())[:400]

    def _wait(self, attempt: int, wanted: float | None) -> float:
        """Seconds before the next attempt: what the server asked for, else doubling; with jitter."""
        jitter = self._random.random()
        if wanted is not None:
            return min(LONGEST_WAIT, wanted) + jitter * self._patience.first
        doubled = self._patience.first * 2.0 ** (attempt - 1)
        return min(self._patience.most, doubled) * (0.5 + jitter)


def check_address(base_url: str) -> str:
    """The address without a ``/`` at its end.

    Raises:
        BadOption: none is given, or it is no address, or it holds a secret.
    """
    try:
        parts = urlsplit(base_url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        secret = parts.username or parts.password or parts.query
        _ = parts.port
    except ValueError:
        good, secret = False, None
    if secret:
        raise BadOption(
            "the address holds a user, a password or a query",
            where="--base-url",
            hint="keys come from the environment alone: --key-variable NAME",
        )
    if not good:
        raise BadOption(
            f"{base_url!r} is no server's address" if base_url else "no server's address",
            where="--base-url",
            hint="such as --base-url http://127.0.0.1:8000/v1",
        )
    return base_url.rstrip("/")


def _client(address: str, key: str, seconds: float) -> Any:
    try:
        import openai
    except ImportError:
        raise EngineUnavailable(
            "the package openai is not installed",
            where="--engine openai",
            hint="pip install 'evalsuite[openai]'",
        ) from None
    return openai.AsyncOpenAI(
        base_url=address, api_key=key or "none", timeout=seconds, max_retries=0
    )


def _message(fault: Any) -> str:
    """What the server says, in OpenAI's form, vLLM's, FastAPI's, or as it is."""
    body = fault.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        for source in (inner, body):
            if isinstance(source, dict):
                said = source.get("message") or source.get("detail")
                if said:
                    return f"{said} ({fault.code})" if fault.code else str(said)
            elif source:
                return str(source)
    return str(fault.message)


def _asked_for(fault: Any) -> float | None:
    """The Retry-After header, in seconds or as a date; None if there is none or it is garbage."""
    value = str(fault.response.headers.get("retry-after", "")).strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value, re.ASCII):
        return min(LONGEST_WAIT, float(value))
    try:
        wanted = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(LONGEST_WAIT, max(0.0, wanted))
