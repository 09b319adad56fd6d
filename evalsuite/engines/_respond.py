"""One request to a server, and what it becomes: a text, choices, or a score."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from evalsuite.engines._probe import Abilities, check_name
from evalsuite.engines._server import Server
from evalsuite.engines._usage import Usage
from evalsuite.engines._wire import (
    echoed,
    first_tokens,
    match,
    messages,
    read_answer,
    sampling_body,
)
from evalsuite.engines.base import Prepared
from evalsuite.engines.replay import pick
from evalsuite.request import (
    Choose,
    Chosen,
    Failure,
    Generate,
    Generated,
    Response,
    Sampling,
    Scored,
    most_likely,
)

_WRITTEN = Sampling(max_tokens=256)
"""How a choice is written where it cannot be scored."""


class Responder:
    """Asks a server as its abilities allow, and counts what that takes.

    Args:
        model: as it is asked for.
        context: how many tokens fit, if the server says it.

    Attributes:
        system_fingerprints: the server's names for its configurations, as its answers had them.
    """

    def __init__(self, server: Server, model: str, abilities: Abilities) -> None:
        self._server, self._model, self._abilities = server, model, abilities
        self.usage, self.system_fingerprints = Usage(), set[str]()

    async def respond(self, item: Prepared, *, chats: bool, writes: bool) -> Response | Failure:
        """The answer to one request.

        Args:
            chats: through the server's chat template.
            writes: a choice is written and not scored.

        Raises:
            Refused, Unanswered: there is none.
            EngineUnavailable, EngineFailed: there will be none to any other either.
        """
        request = item.request
        if isinstance(request, Generate):
            return await self._generate(item, request.sampling, chats)
        if isinstance(request, Choose):
            if not request.choices:
                return Chosen(None, prompt_tokens=len(item.prompt))
            if writes:
                written = await self._generate(item, _WRITTEN, chats)
                if isinstance(written, Failure):
                    return written
                picked = pick(written.text, request.choices)
                return Chosen(picked, prompt_tokens=written.prompt_tokens)
            if item.prompt:
                return await self._choose(item, request.choices)
            return await self._choose_by_text(item, request.choices, chats)
        return await self._score(item)

    async def _generate(
        self, item: Prepared, sampling: Sampling, chats: bool
    ) -> Generated | Failure:
        abilities, stops = self._abilities, sampling.stop
        if abilities.context is not None and item.prompt:
            room = max(1, abilities.context - len(item.prompt))
            sampling = msgspec.structs.replace(sampling, max_tokens=min(sampling.max_tokens, room))
        limit = abilities.limit if chats else "max_tokens"
        body = sampling_body(sampling, limit, abilities.extras)
        if abilities.token_ids:
            body["return_token_ids"] = True
        answer = await self._ask(item, body, chats=chats)
        finish = answer.finish_reason
        if finish is None:
            return Failure("server_refused", f"held back: {answer.choices[0].finish_reason!a}")
        text = _cut(answer.text, stops)
        return Generated(
            text=text,
            finish_reason=finish if text == answer.text else "stop",
            prompt_tokens=answer.tokens[0],
            token_ids=answer.token_ids,
        )

    async def _choose(self, item: Prepared, choices: Sequence[str]) -> Response | Failure:
        """By the ids of the choices' tokens; in one request where each choice is one token."""
        tails, abilities = item.tails, self._abilities
        found: dict[str | int, float] = {}
        if all(len(tail) == 1 for tail in tails):
            named = [tail[0] for tail in tails]
            body: dict[str, Any] = {
                "max_tokens": 1,
                "temperature": 0.0,
                "logprobs": abilities.top,
                "return_tokens_as_token_ids": True,
            }
            if abilities.chosen:
                body |= {"logprobs": len(named), "logprob_token_ids": named}
            found = (await self._ask(item, body, first_tokens))[1]
            if not any(isinstance(token, int) for token in found):
                return _chosen(match(found, choices), tails, len(item.prompt))
        known = [found.get(tail[0]) if len(tail) == 1 else None for tail in tails]
        if not abilities.echo:
            if any(len(tail) > 1 for tail in tails):
                return _no_echo()
            return _chosen(known, tails, len(item.prompt))
        missing = [at for at, logprob in enumerate(known) if logprob is None]
        scores = await asyncio.gather(*(self._tail(item, tails[at]) for at in missing))
        for at, (logprob, _) in zip(missing, scores, strict=True):
            known[at] = logprob
        return _chosen(known, tails, len(item.prompt))

    async def _choose_by_text(
        self, item: Prepared, choices: Sequence[str], chats: bool
    ) -> Response:
        """By the letters among the likeliest first tokens."""
        body: dict[str, Any] = {self._abilities.limit if chats else "max_tokens": 1}
        body |= {"temperature": 0.0, "logprobs": self._abilities.top}
        if chats:
            body |= {"logprobs": True, "top_logprobs": self._abilities.chat_top}
        answer, found = await self._ask(item, body, first_tokens, chats=chats)
        return _chosen(match(found, choices), ((0,),) * len(choices), answer.tokens[0])

    async def _score(self, item: Prepared) -> Response | Failure:
        if not self._abilities.echo:
            return _no_echo()
        [tail] = item.tails
        logprob, greedy = await self._tail(item, tail)
        return Scored(logprob, len(tail), greedy, prompt_tokens=len(item.prompt))

    async def _tail(self, item: Prepared, tail: tuple[int, ...]) -> tuple[float, bool]:
        """Log-likelihood of tokens after the prompt: both are sent, and the server says of each.

        A prompt that was cut for the shortest choice gives way to a longer one.
        """
        room = None if self._abilities.context is None else self._abilities.context - 1 - len(tail)
        prompt = item.prompt if room is None else item.prompt[-room:]
        start, end = len(prompt), len(prompt) + len(tail)
        body = {
            "prompt": [*prompt, *tail],
            "max_tokens": 1,
            "temperature": 0.0,
            "echo": True,
            "logprobs": 1,
            "return_tokens_as_token_ids": True,
        }
        found: tuple[float, bool]
        _, found = await self._ask(item, body, lambda answer: echoed(answer, start, end))
        return found

    async def _ask(
        self, item: Prepared, body: dict[str, Any], read: Any = None, *, chats: bool = False
    ) -> Any:
        """An answer, or with ``read`` the answer and what that reads out of it."""
        prompt = item.request.prompt
        body = {"model": self._model, **body}
        if chats:
            body["messages"] = messages(prompt)
        elif "prompt" not in body:
            body["prompt"] = item.prompt or prompt.full

        def understood(content: Any) -> Any:
            answer = read_answer(content)
            check_name(self._model, self._abilities.model, answer.model or "")
            result = answer if read is None else (answer, read(answer))
            self.usage.add(*answer.tokens)
            if answer.system_fingerprint:
                self.system_fingerprints.add(answer.system_fingerprint[:80])
            return result

        return await self._server.ask(path_of(chats), body, understood)


def path_of(chats: bool) -> str:
    """The endpoint, below the server's address."""
    return "chat/completions" if chats else "completions"


def _no_echo() -> Failure:
    message = "this server does not say the log-probabilities of a prompt's tokens (echo)"
    return Failure("no_logprobs", message)


def _chosen(
    known: Sequence[float | None], tails: Sequence[Sequence[int]], prompt_tokens: int
) -> Chosen:
    """The likeliest of the choices; numbers only if all of them are known.

    A token that is not among the likeliest is less likely than all that are.
    """
    picked = most_likely(tuple(-1e30 if one is None else one for one in known))
    numbers = [one for one in known if one is not None]
    return Chosen(
        picked=picked if numbers else None,
        logprobs=tuple(numbers) if len(numbers) == len(known) else (),
        token_counts=tuple(map(len, tails)),
        prompt_tokens=prompt_tokens,
    )


def _cut(text: str, stops: Sequence[str]) -> str:
    """The text up to the first stop string; a server takes only a few of them."""
    places = [text.find(stop) for stop in stops if stop and stop in text]
    return text[: min(places, default=len(text))]
