"""What a server can do, found out by asking it before the run."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from evalsuite.engines._server import Passing, Refused, Server, Unanswered
from evalsuite.engines._wire import (
    Answer,
    Listed,
    alternatives,
    echoed,
    first_tokens,
    likeliest,
    read_answer,
)
from evalsuite.errors import BadOption, EngineFailed, EngineUnavailable, UnknownName

_TOP = (20, 5, 1)
"""Numbers of likeliest tokens to ask for: vLLM's and chat's most, completions' most, one."""

_VLLM = {
    "top_k": "top_k",
    "no_top_k": "0",
    "repetition_penalty": "repetition_penalty",
    "min_p": "min_p",
}
_LLAMA_CPP = _VLLM | {"repetition_penalty": "repeat_penalty"}
_EXTRAS = (_VLLM, _VLLM | {"no_top_k": "-1"}, _LLAMA_CPP)
"""Names of the parameters beyond OpenAI's, and which top_k means none: vLLM, SGLang, llama-cpp-python."""

_SNAPSHOT = re.compile(r"[-@:](?:\d{4}-\d{2}-\d{2}|\d{4,8}|v?\d+(?:\.\d+)*|latest)|@[\w.-]+")
_BEGINNINGS = ("1", "The", "今天我想")
_QUESTIONS = (
    "从前有座山，山里",
    "今天我想",
    "The",
    "Once upon a time, there was a",
    "题目：中国的首都是\n答案：",
    "def f(x):\n    return",
)
"""Open beginnings, at which different weights differ most."""

Likely = dict[str, float]
"""Token → probability, of the likeliest few."""


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about one model on one server.

    Attributes:
        model: the name that the server gives itself in its answers.
        software: who owns the model, as the server's list has it: ``vllm``, ``llamacpp``, …
        completions, chat: whether there is that endpoint; ``chat`` needs a template on the server.
        top, chat_top: how many of the likeliest tokens each says the log-probabilities of.
        echo: it says the log-probabilities of the prompt's own tokens.
        chosen: it says those of the tokens that are named (vLLM).
        token_ids: it says the ids of what it wrote.
        tokenize: address of the tokenizer, and ``prompt`` or ``content``, as the text is called.
        context: tokens that fit, prompt and answer together.
        limit: what it calls ``max_tokens`` in a chat.
        extras: see :func:`evalsuite.engines._wire.sampling_body`.
        likely: the likeliest first tokens after each of a few open beginnings: tells weights apart.
    """

    model: str
    software: str = ""
    completions: bool = False
    chat: bool = False
    top: int = 0
    chat_top: int = 0
    echo: bool = False
    chosen: bool = False
    token_ids: bool = False
    tokenize: tuple[str, str] | None = None
    context: int | None = None
    limit: str = "max_tokens"
    extras: dict[str, str] = {}
    likely: tuple[Likely, ...] = ()


async def probe(server: Server, model: str) -> Abilities:
    """Ask a server what it can do, in about twenty short requests.

    Raises:
        UnknownName, BadOption: it does not have this model, or answers as another.
        EngineUnavailable: nobody is there, the key is wrong, or it has neither endpoint.
    """
    try:
        return await _Probe(server, model).run()
    except EngineFailed as fault:
        raise EngineUnavailable(
            fault.what.replace("any more", ""),
            where=fault.where,
            hint="start the server, or mend --base-url",
        ) from None


class _Probe:
    def __init__(self, server: Server, model: str) -> None:
        self._server = server
        self._model = model
        self._said = ""
        self._reasons: list[str] = []

    async def run(self) -> Abilities:
        listed = await self._listed()
        entry = listed.get(self._model, {})
        software = str(entry.get("owned_by", ""))[:40]
        completions = await self._ask("completions", {"prompt": "1", "max_tokens": 1})
        chat, limit = await self._chat()
        if completions is None and chat is None:
            raise self._nothing(list(listed))
        path = "completions" if completions else "chat/completions"
        extras = await self._extras(path, limit, software)
        tokenize = await self._tokenize() if completions else None
        top = await self._top("completions", limit) if completions else 0
        return Abilities(
            model=self._said or self._model,
            software=software,
            completions=completions is not None,
            chat=chat is not None,
            top=top,
            chat_top=await self._top("chat/completions", limit) if chat else 0,
            echo=await self._echo() if top else False,
            chosen=await self._chosen() if top and tokenize else False,
            token_ids=await self._token_ids() if completions else False,
            tokenize=tokenize,
            context=_context(entry),
            limit=limit,
            extras=extras,
            likely=await self._likely(path, limit),
        )

    async def _listed(self) -> dict[str, dict[str, Any]]:
        """The models that the server lists, by name; none where it has no list."""
        try:
            content = await self._server.get("models")
            entries = content["data"] if isinstance(content, dict) else []
            return {str(entry["id"]): entry for entry in entries}
        except (Refused, Unanswered, LookupError, TypeError):
            return {}

    async def _ask(self, path: str, body: dict[str, Any]) -> Answer | None:
        """One question; None where the server does not take it."""
        question = {"model": self._model, "temperature": 0.0, **body}
        try:
            answer = await self._server.ask(path, question, read_answer, probing=True)
        except (Refused, Unanswered) as fault:
            self._reasons.append(f"{path}: {fault}")
            return None
        self._said = check_name(self._model, self._said, answer.model or "")
        return answer

    async def _chat(self) -> tuple[Answer | None, str]:
        for limit in ("max_tokens", "max_completion_tokens"):
            answer = await self._ask("chat/completions", self._short(limit))
            if answer is not None or "max_completion_tokens" not in self._reasons[-1]:
                break
        return answer, limit

    def _short(self, limit: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": "1"}], limit: 1}

    def _question(self, path: str, limit: str, text: str = "1") -> dict[str, Any]:
        if path == "completions":
            return {"prompt": text, "max_tokens": 1}
        return {"messages": [{"role": "user", "content": text}], limit: 1}

    async def _extras(self, path: str, limit: str, software: str) -> dict[str, str]:
        if software == "llamacpp":
            return _LLAMA_CPP
        question = self._question(path, limit)
        for names in _EXTRAS:
            neutral = {
                names["top_k"]: int(names["no_top_k"]),
                names["repetition_penalty"]: 1.0,
                names["min_p"]: 0.0,
            }
            if await self._ask(path, question | neutral) is None:
                continue
            if not [name for name in neutral if await self._ignores(path, question, name)]:
                return names
        return {}

    async def _ignores(self, path: str, question: dict[str, Any], name: str) -> bool:
        """Whether a parameter may hold anything: a server that knows it refuses what is no number."""
        return await self._ask(path, question | {name: "no number"}) is not None

    async def _top(self, path: str, limit: str) -> int:
        """How many likeliest tokens are said; a model that has nothing to add to a text says none there."""
        for count in _TOP:
            for text in _BEGINNINGS:
                listed = await self._alternatives(path, limit, text, count)
                if listed is None:
                    break
                if listed:
                    return min(count, len(listed))
        return 0

    async def _alternatives(
        self, path: str, limit: str, text: str, count: int
    ) -> list[Listed] | None:
        """The first tokens that are listed; empty where the model has nothing to add, None where they are not said."""
        body = self._question(path, limit, text)
        body |= (
            {"logprobs": count}
            if path == "completions"
            else {"logprobs": True, "top_logprobs": count}
        )
        answer = await self._ask(path, body)
        if answer is None or answer.choices[0].logprobs is None:
            return None
        try:
            return alternatives(answer)
        except Passing:
            return []

    async def _likely(self, path: str, limit: str) -> tuple[Likely, ...]:
        found = []
        for text in _QUESTIONS:
            listed = await self._alternatives(path, limit, text, _TOP[1])
            if listed is None:
                return ()
            found.append({str(token): value for token, value in likeliest(listed).items()})
        return tuple(found) if any(found) else ()

    async def _echo(self) -> bool:
        """Whether a prompt's own tokens come back with log-probabilities, the first of them apart."""
        body = {"prompt": "1 2 3 4", "max_tokens": 1, "echo": True, "logprobs": 1}
        answer = await self._ask("completions", body)
        if answer is None:
            return False
        try:
            count = answer.tokens[0]
            return count > 2 and echoed(answer, 1, count)[0] < 0
        except Passing:
            return False

    async def _chosen(self) -> bool:
        """vLLM's ``logprob_token_ids``: the log-probabilities of the named tokens, and no others."""
        asked = [5, 17, 29, 31]
        body = {
            "prompt": "1",
            "max_tokens": 1,
            "logprobs": len(asked),
            "logprob_token_ids": asked,
            "return_tokens_as_token_ids": True,
        }
        answer = await self._ask("completions", body)
        try:
            return answer is not None and set(asked) <= first_tokens(answer).keys()
        except Passing:
            return False

    async def _token_ids(self) -> bool:
        body = {"prompt": "1", "max_tokens": 1, "return_token_ids": True}
        answer = await self._ask("completions", body)
        return answer is not None and len(answer.token_ids) == 1

    async def _tokenize(self) -> tuple[str, str] | None:
        """Where text becomes tokens, if the server then takes the tokens in place of the text."""
        for field in ("prompt", "content"):
            for base in (self._server.root, self._server.address):
                body = {"model": self._model, field: "1 2 3"}
                try:
                    content = await self._server.ask(
                        f"{base}/tokenize", body, read_tokens, probing=True
                    )
                except (Refused, Unanswered):
                    continue
                answer = await self._ask("completions", {"prompt": content, "max_tokens": 1})
                if answer and content and answer.tokens[0] in (len(content), 0):
                    return f"{base}/tokenize", field
        return None

    def _nothing(self, listed: list[str]) -> Exception:
        if listed and self._model not in listed:
            known = ", ".join(ascii(name) for name in listed[:8])
            return UnknownName(
                "model", self._model, listed, where="--model", hint=f"it has {known}"
            )
        return EngineUnavailable(
            f"neither completions nor chat completions: {'; '.join(self._reasons[:2])}",
            where=self._server.address,
            hint="check --base-url (it mostly ends in /v1) and --model",
        )


def read_tokens(content: Any) -> list[int]:
    """Ids in a tokenizer's answer: ``{"tokens": [1, 2]}``, as vLLM, SGLang and llama.cpp have it.

    Raises:
        Passing: something else came.
    """
    try:
        return msgspec.convert(content["tokens"], list[int])
    except (LookupError, TypeError, msgspec.ValidationError):
        raise Passing("the tokenizer's answer holds no tokens") from None


def check_name(asked: str, before: str, said: str) -> str:
    """The name that a server gives itself, if it is the model's that was asked.

    The name itself, with or without folders before it, or a dated version or revision of it.

    Args:
        before: what it said earlier; empty at first.

    Raises:
        BadOption: another model answers.
        EngineFailed: another than before.
    """
    if not said or said == before:
        return before
    if before:
        raise EngineFailed(
            f"the server answered as {said!a}, and as {before!a} before",
            where="the model's name in its answers",
            hint="what was finished is kept; repeat the command when the server has one model again",
        )
    one, other = (name.rstrip("/").rpartition("/")[2].lower() for name in (asked, said))
    if one == other or (other.startswith(one) and _SNAPSHOT.fullmatch(other[len(one) :])):
        return said
    raise BadOption(
        f"the server answers as another model: {said!a}",
        where=f"--model {asked}",
        hint=f"if that is the one you mean: --model {said!a}",
    )


def _context(entry: dict[str, Any]) -> int | None:
    """vLLM and SGLang say ``max_model_len``; others say it in places of their own, or not."""
    meta = entry.get("meta")
    places = [entry.get("max_model_len"), entry.get("context_length")]
    places.append(meta.get("n_ctx") if isinstance(meta, dict) else None)
    return next((n for n in places if isinstance(n, int) and n > 0), None)
