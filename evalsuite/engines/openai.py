"""Any server that speaks OpenAI's API: vLLM, SGLang, llama.cpp, TGI, the public ones."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from evalsuite.engines._loop import Loop
from evalsuite.engines._preflight import Preflight, check_sampling, sampling_content
from evalsuite.engines._probe import Abilities
from evalsuite.engines._respond import Responder, path_of
from evalsuite.engines._served_tokens import ServedTokens, open_tokens
from evalsuite.engines._server import Refused, Server, Unanswered
from evalsuite.engines._serving import ALWAYS, SERVER, ServerOptions
from evalsuite.engines._tokens import Tokens
from evalsuite.engines._wire import messages
from evalsuite.engines.base import Engine, Prepared
from evalsuite.errors import BadOption, EngineFailed
from evalsuite.metrics.choice import LETTERS
from evalsuite.record import digest
from evalsuite.request import (
    Choose,
    Failure,
    Generate,
    Prompt,
    Request,
    Response,
    Sampling,
)

_SPARE = 2
"""Tokens of the context that are kept free: a scored text stands in the prompt as a whole, and a
server generates at least one more."""

_AHEAD = 4
"""Answers that may wait to be scored, in multiples of the requests at once."""

_GRACE = 60.0
"""Seconds in which what is under way may end after the server has failed."""


class OpenAIEngine(Engine):
    """Log-likelihoods where the server gives them; everything else as the server does it.

    With a server that has a tokenizer, prompts go as token ids, checked as those of the embedded
    engines are, and log-likelihoods are equal to theirs. Without one, prompts go as text, and of
    multiple choice only letters can be read from the likeliest first tokens.

    Args:
        model: as it is asked for.
        template: see :func:`evalsuite.engines._serving.template_name`.
        fingerprint: tells this model's weights from others of the same name.

    Attributes:
        context: how many tokens fit, if the server says it.
    """

    name = "openai"

    def __init__(
        self,
        model: str,
        options: ServerOptions,
        abilities: Abilities,
        *,
        template: str,
        fingerprint: str,
    ) -> None:
        self._model, self._abilities, self._options = model, abilities, options
        self.template_name = template
        self.context = abilities.context
        self._identity = [fingerprint, self.name, abilities.model, options.choices]
        self._loop = Loop()
        try:
            self._server = self._loop.run(_opened(options))
        except BaseException:
            self._loop.close()
            raise
        self._open = True
        self._responder = Responder(self._server, model, abilities)
        try:
            self._tokens = self._served_tokens()
        except BaseException:
            self.close()
            raise
        self._preflight = self._tokens and Preflight(
            self._tokens,
            None,
            force_template=False,
            context=self.context and max(1, self.context - _SPARE),
            rows=1 << 31,
            identity=self._identity,
        )

    @property
    def description(self) -> dict[str, Any]:
        """The model's name as the server says it, what the server can do, and what it was so far.

        ``system_fingerprints`` are the server's names for its configurations; several where it
        changed meanwhile. They are no part of an answer's key: behind one address they change from
        request to request.
        """
        import openai

        abilities = msgspec.to_builtins(self._abilities)
        for name in ("likely", "tokenize", "model"):
            del abilities[name]
        return {
            "name": self.name,
            "version": f"openai {openai.__version__}",
            "model": self._abilities.model,
            "choices": self._options.choices,
            "prompts": "token ids" if self._preflight else "text",
            "system_fingerprints": sorted(self._responder.system_fingerprints),
            **abilities,
        }

    @property
    def usage(self) -> dict[str, float]:
        """Requests, tokens and money since the engine was opened; ``price`` counts the money."""
        usage = self._responder.usage
        usage.retries = self._server.retries
        return usage.numbers(self._options.price)

    def prepare(self, names: Sequence[str], requests: Sequence[Request]) -> list[Prepared]:
        """Check requests, and tokenise those that go as token ids.

        Raises:
            BadOption: senseless sampling, parameters that the server does not have, or multiple
                choice on a server that gives no log-probabilities.
            EngineFailed: the server's tokenizer does not answer.
        """
        self._check(requests)
        prepared: list[Prepared | None] = [None] * len(requests)
        tokenised = []
        for at, (name, request) in enumerate(zip(names, requests, strict=True)):
            if self._preflight and self._as_tokens(request):
                tokenised.append(at)
            else:
                prepared[at] = self._as_text(name, request)
        if self._preflight and tokenised:
            ready = self._preflight.prepare(
                [names[at] for at in tokenised], [requests[at] for at in tokenised]
            )
            for at, item in zip(tokenised, ready, strict=True):
                prepared[at] = item
        return [item for item in prepared if item is not None]

    def answer(self, prepared: Sequence[Prepared]) -> Iterator[tuple[int, Response | Failure]]:
        """Answers as they come: those that are scored first, then texts, the longest first.

        Raises:
            EngineUnavailable, EngineFailed: the server is gone, or answers nobody; what was under
                way is waited for, so that nothing that was paid for is lost.
        """
        if not self._open:
            raise EngineFailed("the engine was closed", hint="open another one")
        done: queue.SimpleQueue[tuple[int, Response | Failure] | BaseException] = (
            queue.SimpleQueue()
        )
        room = asyncio.Semaphore(_AHEAD * self._options.concurrency)
        work = self._loop.start(self._answer_all(prepared, done, room))
        try:
            for _ in prepared:
                answer = done.get()
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
                self._loop.soon(room.release)
        finally:
            work.cancel()

    def shown_prompt(self, prepared: Prepared) -> str:
        """The text that is sent; of a chat, the turns before the server's template."""
        prompt = prepared.request.prompt
        if prepared.prompt and self._tokens and self._options.tokenizer:
            return self._tokens.spelled(prepared.prompt)
        if not self._chats(prompt):
            return prompt.full
        return "\n".join(f"[{turn['role']}] {turn['content']}" for turn in messages(prompt))

    def close(self) -> None:
        """Close the connections; what is under way is given up."""
        if self._open:
            self._open = False
            self._loop.run(self._server.close())
            self._loop.close()

    def _served_tokens(self) -> Tokens | None:
        if not self._abilities.completions:
            return None
        served = None
        if self._abilities.tokenize is not None:
            where = self._abilities.tokenize
            served = ServedTokens(self._loop, self._server, self._model, *where)
        folder = self._options.tokenizer
        return open_tokens(folder, served) if folder else served

    def _chats(self, prompt: Prompt) -> bool:
        return self.template_name == ALWAYS or (self.template_name == SERVER and not prompt.plain)

    def _writes(self, request: Request) -> bool:
        return isinstance(request, Choose) and self._options.choices == "written"

    def _as_tokens(self, request: Request) -> bool:
        return not self._chats(request.prompt) and not self._writes(request)

    def _check(self, requests: Sequence[Request]) -> None:
        for request in requests:
            if isinstance(request, Generate):
                check_sampling(request.sampling)
                _check_extras(request.sampling, self._abilities.extras)
            elif not self._writes(request):
                chats = self._chats(request.prompt)
                if not (self._abilities.chat_top if chats else self._abilities.top):
                    raise BadOption(
                        f"this server gives no log-probabilities in {path_of(chats)}, and multiple"
                        " choice is asked by them",
                        where=self._server.address,
                        hint="--choices written lets the model write its letter (another protocol,"
                        " other scores); or leave these tasks out",
                    )

    def _as_text(self, name: str, request: Request) -> Prepared:
        chats, written = self._chats(request.prompt), self._writes(request)
        prompt = request.prompt
        content: list[Any] = [path_of(chats), prompt.full, prompt.system if chats else ""]
        failure = None
        if isinstance(request, Generate):
            content += ["generate", sampling_content(request.sampling)]
        elif isinstance(request, Choose):
            content += ["choose", request.choices]
            if not written:
                failure = _unreadable(request.choices)
        else:
            content += ["score", request.continuation]
            failure = Failure("no_logprobs", "this server scores no given text without a tokenizer")
        key = digest([*self._identity, content])
        return Prepared(name=name, request=request, key=key, failure=failure)

    async def _answer_all(
        self,
        prepared: Sequence[Prepared],
        done: queue.SimpleQueue[tuple[int, Response | Failure] | BaseException],
        room: asyncio.Semaphore,
    ) -> None:
        waiting = iter(_order(prepared))

        async def work() -> None:
            for index in waiting:
                if self._server.stopping:
                    return
                await room.acquire()
                answer = await self._one(prepared[index])
                if answer is not None:
                    done.put((index, answer))

        workers = [
            asyncio.create_task(work())
            for _ in range(min(self._options.concurrency, len(prepared)))
        ]
        try:
            self._server.go_on()
            await asyncio.gather(*workers)
        except asyncio.CancelledError:
            for worker in workers:
                worker.cancel()
            raise
        except BaseException as fault:
            self._server.stop()
            await asyncio.wait(workers, timeout=_GRACE)
            for worker in workers:
                worker.cancel()
            done.put(fault)

    async def _one(self, item: Prepared) -> Response | Failure | None:
        """The answer to one request; None where the run ends before there is one."""
        if item.failure is not None:
            return item.failure
        try:
            return await self._responder.respond(
                item, chats=self._chats(item.request.prompt), writes=self._writes(item.request)
            )
        except Refused as fault:
            code = "prompt_too_long" if fault.too_long else "server_refused"
            return Failure(code, str(fault))
        except Unanswered as fault:
            return None if self._server.stopping else Failure("unanswered", str(fault))


async def _opened(options: ServerOptions) -> Server:
    return options.open()


def _order(prepared: Sequence[Prepared]) -> list[int]:
    """What is scored in the plan's order, so that common beginnings are near; long texts before short."""

    def expected(index: int) -> int:
        request = prepared[index].request
        return request.sampling.max_tokens if isinstance(request, Generate) else 1 << 31

    return sorted(range(len(prepared)), key=lambda index: -expected(index))


def _check_extras(sampling: Sampling, extras: dict[str, str]) -> None:
    """Refuse what the server would leave out of account in silence."""
    faults = {
        "top_k": sampling.temperature > 0 and sampling.top_k > 0,
        "repetition_penalty": sampling.repetition_penalty != 1,
    }
    for name, needed in faults.items():
        if needed and name not in extras:
            raise BadOption(
                f"this server has no {name}",
                where=f"sampling: {name}={getattr(sampling, name)}",
                hint="choose other parameters with --sampling, such as --sampling greedy",
            )


def _unreadable(choices: Sequence[str]) -> Failure | None:
    texts = [choice.strip() for choice in choices]
    if not all(texts):
        return Failure("empty_continuation", "a choice is empty")
    if texts == list(LETTERS[: len(texts)]):
        return None
    message = "without a tokenizer and plain completions, this server only chooses between letters"
    return Failure("no_logprobs", message)
