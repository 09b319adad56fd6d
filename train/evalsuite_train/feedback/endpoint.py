"""Asking a model behind an OpenAI-compatible endpoint, patiently."""

from __future__ import annotations

import email.utils
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from evalsuite_train.errors import BadRecipe, TrainError

LONGEST_WAIT = 300.0
"""Seconds; a server that asks for more is taken at this."""

_TRANSIENT = (408, 409, 425, 429)


class Refused(TrainError):
    """The endpoint will not answer whatever is asked: a wrong key, model or address."""


class NoAnswer(TrainError):
    """One question stayed without an answer, however often it was asked."""


class Answer(NamedTuple):
    """What came back: the text, and the name of the model that says it wrote it."""

    text: str
    model: str


class Endpoint:
    """A chat-completions endpoint; may be shared by threads.

    The key is read from the environment and never written: not to a file, and not into a message,
    even where the server sends it back.

    Args:
        base_url: such as ``http://127.0.0.1:8000/v1``; without a user, password or query.
        key_variable: the environment variable with the key.
        attempts: how often one question is sent before it is given up.
        seconds: time limit of one attempt.
        pause: waits that many seconds; replaced in tests. By default :meth:`stop` ends it.

    Raises:
        BadRecipe: an address that is none, or no key in the environment.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        key_variable: str,
        *,
        attempts: int = 8,
        seconds: float = 120.0,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        import openai

        address = urlsplit(base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise BadRecipe(f"no address of an endpoint: {base_url!r}", hint="http://HOST:PORT/v1")
        if address.username or address.password or address.query:
            raise BadRecipe("the address holds a user, password or query", hint="use the key alone")
        key = os.environ.get(key_variable, "").strip()
        if not key:
            hint = "set it to the endpoint's key; a local server takes any word"
            raise BadRecipe(f"the environment variable {key_variable} is not set", hint=hint)
        self._key, self._model, self._attempts = key, model, attempts
        self.address = base_url
        self._stopped = threading.Event()
        self._pause = pause or self._stopped.wait
        self._random, self._lock = random.Random(), threading.Lock()
        self._client = openai.OpenAI(base_url=base_url, api_key=key, timeout=seconds, max_retries=0)

    def ask(self, system: str, question: str, *, max_tokens: int) -> Answer:
        """One answer at temperature 0; waits and asks again while the fault may pass.

        Raises:
            Refused: the fault will not pass (HTTP 400–499 but for time-outs and rate limits).
            NoAnswer: no usable answer in all attempts.
        """
        reason, wanted = "", None
        for attempt in range(self._attempts):
            if attempt:
                self._pause(self._wait(attempt, wanted))
            if self._stopped.is_set():
                break
            try:
                return self._once(system, question, max_tokens)
            except _Passing as fault:
                reason, wanted = self.redact(str(fault)), fault.wanted
        raise NoAnswer(f"no answer in {self._attempts} attempts, at last: {reason}")

    def redact(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self._key, "***")

    def stop(self) -> None:
        """Let questions that wait for their next attempt be given up, and ask no more."""
        self._stopped.set()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _once(self, system: str, question: str, max_tokens: int) -> Answer:
        import openai

        try:
            completion: Any = self._client.chat.completions.create(
                model=self._model,
                messages=[
                    {"role": "system", "content": system},
                    {"role": "user", "content": question},
                ],
                temperature=0.0,
                max_tokens=max_tokens,
            )
            text = completion.choices[0].message.content
        except openai.APIStatusError as fault:
            if fault.status_code >= 500 or fault.status_code in _TRANSIENT:
                raise _Passing(f"HTTP {fault.status_code}", _asked_for(fault)) from None
            what = self.redact(f"HTTP {fault.status_code}: {fault.message}"[:500])
            hint = "check the address, the model's name and the key"
            raise Refused(what, where=str(self._client.base_url), hint=hint) from None
        except openai.APIConnectionError as fault:
            raise _Passing(f"{type(fault).__name__}: {fault.__cause__}") from None
        except (
            openai.APIError,
            ValueError,
            LookupError,
            AttributeError,
            TypeError,
            RecursionError,
        ) as fault:
            # A body that is not JSON, or JSON of another form, such as a proxy's error page.
            raise _Passing(f"not a chat completion ({type(fault).__name__})") from None
        if not isinstance(text, str):
            raise _Passing("an answer without text")
        return Answer(self.redact(text), self.redact(str(completion.model)))

    def _wait(self, attempt: int, wanted: float | None) -> float:
        """Seconds before the next attempt: what the server asked for, else doubling; with jitter."""
        with self._lock:
            jitter = self._random.random()
        if wanted is not None:
            return min(LONGEST_WAIT, wanted) + jitter
        return min(60.0, 2.0 ** (attempt - 1)) * (0.5 + jitter)


class _Passing(Exception):
    """A fault that may pass; ``wanted`` is the server's Retry-After in seconds."""

    def __init__(self, what: str, wanted: float | None = None) -> None:
        super().__init__(what)
        self.wanted = wanted


def _asked_for(fault: Any) -> float | None:
    """The Retry-After header, in seconds or as a date; None if there is none or it is garbage."""
    value = str(fault.response.headers.get("retry-after", "")).strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
