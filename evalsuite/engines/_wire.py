"""OpenAI's JSON: what is sent, and what is read out of an answer that may hold anything."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from evalsuite.engines._server import Passing
from evalsuite.engines._tokens import without_surrogates
from evalsuite.request import FinishReason, Prompt, Sampling

STOPS = 4
"""How many stop strings OpenAI's API takes; all of them are looked for again in what comes back."""

_TOKEN_ID = re.compile(r"token_id:(\d{1,9})", re.ASCII)

TopTokens = dict[str | int, float]
"""Log-probability by the token's text, or by its id where the server says it."""
Listed = tuple[str | int, float]
"""One of them as a server lists it; two tokens may be written alike."""


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    text: str | None = None
    message: _Message | None = None
    logprobs: dict[str, Any] | None = None
    token_ids: list[int] | None = None


class Answer(msgspec.Struct):
    """A completion of either kind.

    Attributes:
        model: the name that the server says the answer is of; empty where it says none.
    """

    choices: list[_Choice]
    model: str | None = None
    usage: _Usage | None = None
    system_fingerprint: str | None = None

    @property
    def text(self) -> str:
        """What was written; a refusal is an answer, too."""
        choice = self.choices[0]
        if choice.message is not None:
            return choice.message.content or choice.message.refusal or ""
        return choice.text or ""

    @property
    def finish_reason(self) -> FinishReason | None:
        """None for an answer that the server held back."""
        said = self.choices[0].finish_reason or "stop"
        if said in ("content_filter", "abort", "error"):
            return None
        return "length" if said in ("length", "max_tokens") else "stop"

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Ids of what was written; empty where the server does not say them."""
        return tuple(self.choices[0].token_ids or ())

    @property
    def tokens(self) -> tuple[int, int, int]:
        """Tokens of the prompt, of the answer, and of the prompt from the server's cache."""
        usage = self.usage or _Usage()
        details = usage.prompt_tokens_details or _Details()
        return (
            usage.prompt_tokens or 0,
            usage.completion_tokens or 0,
            details.cached_tokens or 0,
        )


def read_answer(content: Any) -> Answer:
    """The answer in a server's JSON.

    Raises:
        Passing: it is none, or it is empty; asked again, it may be there.
    """
    if isinstance(content, dict) and content.get("error") and not content.get("choices"):
        raise Passing(f"an error in place of an answer: {str(content['error'])[:200]!a}")
    try:
        answer = msgspec.convert(content, Answer)
    except msgspec.ValidationError as fault:
        raise Passing(f"not a completion: {fault}") from None
    if not answer.choices:
        raise Passing("a completion without a choice")
    first = answer.choices[0]
    if first.text is None and first.message is None:
        raise Passing("a choice without a text")
    return answer


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as a conversation of one turn, as :mod:`evalsuite.chat` has it."""
    system = [{"role": "system", "content": without_surrogates(prompt.system)}]
    user = {"role": "user", "content": without_surrogates(prompt.full)}
    return [*(system if prompt.system else []), user]


def sampling_body(sampling: Sampling, limit: str, extras: Mapping[str, str]) -> dict[str, Any]:
    """The sampling parameters of a request.

    Where the server knows more than OpenAI's parameters, all of them are named: a server would
    fill in what is missing from the checkpoint's ``generation_config.json``.

    Args:
        limit: what the server calls the number of tokens at most.
        extras: what it calls ``top_k``, ``repetition_penalty`` and ``min_p``, as far as it has them.
    """
    drawn = sampling.temperature > 0
    body: dict[str, Any] = {
        limit: sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p if drawn else 1.0,
    }
    if drawn:
        body["seed"] = sampling.seed
    if "top_k" in extras:
        body[extras["top_k"]] = (sampling.top_k if drawn else 0) or int(extras["no_top_k"])
    if "repetition_penalty" in extras:
        body[extras["repetition_penalty"]] = sampling.repetition_penalty
    if "min_p" in extras:
        body[extras["min_p"]] = 0.0  # llama.cpp's own is 0.05
    if stops := sendable_stops(sampling.stop)[:STOPS]:
        body["stop"] = stops
    return body


def sendable_stops(stops: Sequence[str]) -> list[str]:
    """Stop strings that a text can hold at all."""
    return [stop for stop in stops if stop and stop == without_surrogates(stop)]


def first_tokens(answer: Answer) -> TopTokens:
    """The likeliest first tokens of an answer; of several that are written alike, the likeliest.

    Raises:
        Passing: it does not say them.
    """
    return likeliest(alternatives(answer))


def likeliest(listed: Sequence[Listed]) -> TopTokens:
    """Each token once, with the greatest of its log-probabilities."""
    found: TopTokens = {}
    for token, logprob in listed:
        found[token] = max(logprob, found.get(token, -math.inf))
    return found


def alternatives(answer: Answer) -> list[Listed]:
    """The first tokens that an answer lists, in whichever of the two forms, and its own if it is not there.

    Raises:
        Passing: neither form.
    """
    logprobs = answer.choices[0].logprobs or {}
    try:
        if isinstance(logprobs.get("content"), list):
            first = logprobs["content"][0]
            entries = [*first.get("top_logprobs", ()), first]
            *listed, own = [(_named(e.get("id", e["token"])), float(e["logprob"])) for e in entries]
        else:
            top = logprobs["top_logprobs"][0] or {}
            listed = [(_named(token), float(value)) for token, value in top.items()]
            own = _named(logprobs["tokens"][0]), float(logprobs["token_logprobs"][0])
        return listed if own[0] in dict(listed) else [*listed, own]
    except (LookupError, TypeError, ValueError, AttributeError):
        raise Passing("no log-probabilities in the answer") from None


def echoed(answer: Answer, start: int, end: int) -> tuple[float, bool]:
    """Log-likelihood of the prompt's tokens from ``start`` to ``end``, and whether each was likeliest.

    Raises:
        Passing: the answer does not hold them.
    """
    logprobs = answer.choices[0].logprobs or {}
    try:
        own = [float(value) for value in logprobs["token_logprobs"][start:end]]
        best = [max(map(float, top.values())) for top in logprobs["top_logprobs"][start:end]]
    except (LookupError, TypeError, ValueError, AttributeError):
        own, best = [], []
    if len(own) != end - start or len(best) != len(own):
        raise Passing("the prompt's log-probabilities are missing in the answer")
    return math.fsum(own), all(one >= top for one, top in zip(own, best, strict=True))


def match(found: TopTokens, choices: Sequence[str]) -> list[float | None]:
    """The log-probability of each choice among the likeliest tokens; None where it is not there.

    White space at the ends is left out of account, because servers gain and lose it when they write
    single tokens down; where several tokens are the same then, the likeliest counts.
    """
    by_text: dict[str, float] = {}
    for token, logprob in found.items():
        text = str(token).strip()
        by_text[text] = max(logprob, by_text.get(text, -math.inf))
    return [by_text.get(choice.strip()) for choice in choices]


def _named(token: Any) -> str | int:
    """A token's id where it is said, else its text."""
    if isinstance(token, int):
        return token
    known = _TOKEN_ID.fullmatch(token)
    return int(known[1]) if known else str(token)
