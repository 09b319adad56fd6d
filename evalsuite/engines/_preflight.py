"""From requests to token ids, checked before anything is computed.

The split of context and continuation, and what is dropped on the left when they do not fit, follow
lm-evaluation-harness 0.4.13 (``TemplateLM._encode_pair``, ``HFLM._loglikelihood_tokens``), so that
log-likelihoods are equal to its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from evalsuite.chat import ChatTemplate, render_all
from evalsuite.engines._tokens import Tokens, without_surrogates
from evalsuite.engines.base import Prepared
from evalsuite.errors import BadCheckpoint, BadOption
from evalsuite.record import digest
from evalsuite.request import Choose, Failure, Generate, Prompt, Request, Sampling, Score

_PORTION = 256
"""Requests that are tokenised together: large enough for all cores, small enough for memory."""

Ids = tuple[int, ...]


class Preflight:
    """Renders, tokenises and checks requests for one checkpoint.

    Args:
        template: the chat template, or None for plain text.
        force_template: use it even where the prompt asks for plain text.
        context: how many tokens fit; None for any number.
        rows: rows of the embedding; ids from here on cannot be asked.
        identity: what decides an answer besides tokens and sampling, for the content key.
    """

    def __init__(
        self,
        tokens: Tokens,
        template: ChatTemplate | None,
        *,
        force_template: bool,
        context: int | None,
        rows: int,
        identity: Sequence[str],
    ) -> None:
        self._tokens = tokens
        self._template = template
        self._force = force_template
        self._context = context
        self._rows = rows
        self._identity = list(identity)

    def prepare(self, names: Sequence[str], requests: Sequence[Request]) -> list[Prepared]:
        """One :class:`Prepared` a request, in order.

        Raises:
            BadOption: sampling parameters that make no sense.
            BadCheckpoint: the chat template fails.
        """
        if len(names) != len(requests):
            raise BadOption(f"{len(names)} names for {len(requests)} requests")
        for request in requests:
            if isinstance(request, Generate):
                check_sampling(request.sampling)
        done: list[Prepared] = []
        for start in range(0, len(requests), _PORTION):
            portion = slice(start, start + _PORTION)
            done += self._prepare(names[portion], requests[portion])
        return done

    def _prepare(self, names: Sequence[str], requests: Sequence[Request]) -> Iterator[Prepared]:
        pieces = [
            _pieces(text, request)
            for text, request in zip(self._texts(requests), requests, strict=True)
        ]
        unique = list(dict.fromkeys(text for group in pieces for text in group))
        halves = dict(zip(unique, self._tokens.encode_halves(unique), strict=True))
        for name, request, group in zip(names, requests, pieces, strict=True):
            encoded = [halves[text] for text in group]
            if isinstance(request, Generate):
                [(head, rest)] = encoded
                yield self._generate(name, request, self._tokens.with_lead(head + rest))
            else:
                yield self._score(name, request, *self._split(encoded))

    def _texts(self, requests: Sequence[Request]) -> list[str]:
        """The text of each prompt, through the chat template where it applies."""
        if self._template is None:
            return [without_surrogates(request.prompt.full) for request in requests]
        prompts = [
            Prompt(
                without_surrogates(request.prompt.full),
                system=without_surrogates(request.prompt.system),
                plain=request.prompt.plain and not self._force,
            )
            for request in requests
        ]
        texts = {prompt: prompt.text for prompt in prompts}
        chats = [prompt for prompt in texts if not prompt.plain]
        rendered = render_all(self._template, chats, self._tokens.bos, self._tokens.eos)
        if len(set(chats)) > 1 and len(set(rendered)) == 1:
            raise BadCheckpoint(
                "its chat template leaves the question out",
                where=f"chat template {self._template.name!r}",
                hint="mend it, or choose another with --chat-template",
            )
        texts |= zip(chats, map(without_surrogates, rendered), strict=True)
        return [texts[prompt] for prompt in prompts]

    def _split(self, encoded: list[tuple[Ids, Ids]]) -> tuple[Ids, tuple[Ids, ...]]:
        """The prompt's ids and each tail's: the whole, less as many ids as the prompt has alone."""
        (head, rest), *others = encoded
        if head and all(other is head for other, _ in others):
            tails = tuple(whole[len(rest) :] for _, whole in others)
            return self._tokens.with_lead(head + rest), tails
        prompt, *wholes = (self._tokens.with_lead(first + last) for first, last in encoded)
        if not prompt and self._tokens.start is not None:
            prompt = (self._tokens.start,)
            wholes = [ids if ids[:1] == prompt else prompt + ids for ids in wholes]
        return prompt, tuple(whole[len(prompt) :] for whole in wholes)

    def _generate(self, name: str, request: Generate, prompt: Ids) -> Prepared:
        sampling = request.sampling
        if not prompt and self._tokens.start is not None:
            prompt = (self._tokens.start,)
        truncated = 0
        if self._context is not None:
            room = self._context - sampling.max_tokens
            if request.prompt.truncate == "left" and 0 < room < len(prompt):
                truncated = len(prompt) - room
                prompt = prompt[truncated:]
        failure = self._unaskable(prompt, ())
        if failure is None and self._context is not None and len(prompt) >= self._context:
            failure = self._too_long(len(prompt), 1)
        return Prepared(
            name=name,
            request=request,
            key=digest([*self._identity, "generate", prompt, (), sampling_content(sampling)]),
            prompt=prompt,
            failure=failure,
            truncated=truncated,
        )

    def _score(
        self, name: str, request: Choose | Score, prompt: Ids, tails: tuple[Ids, ...]
    ) -> Prepared:
        """A row is the prompt and one tail without its last token, so context + 1 tokens fit.

        What stays of a truncated prompt is what the shortest tail leaves room for; a longer tail
        takes its tokens from it when it is asked.
        """
        failure = self._unaskable(prompt, tails)
        truncated = 0
        longest = max(map(len, tails), default=0)
        if failure is None and self._context is not None:
            excess = len(prompt) + longest - (self._context + 1)
            if excess > 0:
                if request.prompt.truncate == "error" or longest > self._context:
                    failure = self._too_long(len(prompt), longest)
                else:
                    truncated = excess
                    room = self._context + 1 - min(map(len, tails), default=1)
                    prompt = prompt[-room:]
        kind = "choose" if isinstance(request, Choose) else "score"
        return Prepared(
            name=name,
            request=request,
            key=digest([*self._identity, kind, prompt, tails, None]),
            prompt=prompt,
            tails=tails,
            failure=failure,
            truncated=truncated,
        )

    def _unaskable(self, prompt: Ids, tails: tuple[Ids, ...]) -> Failure | None:
        if not prompt:
            message = "the prompt is empty and the tokenizer has no BOS or EOS to stand in for it"
            return Failure("engine_failed", message)
        if not all(tails):
            which = ", ".join(str(at + 1) for at, tail in enumerate(tails) if not tail)
            message = f"no token is left for choice {which} once the prompt is tokenised"
            return Failure("empty_continuation", message)
        highest = max(max(ids) for ids in (prompt, *tails))
        if highest >= self._rows:
            message = f"token {highest} has no embedding; the checkpoint has {self._rows} rows"
            return Failure("engine_failed", message)
        return None

    def _too_long(self, prompt: int, answer: int) -> Failure:
        message = (
            f"{prompt} tokens of prompt and at least {answer} of answer; "
            f"the checkpoint's context is {self._context}"
        )
        return Failure("prompt_too_long", message)


def _pieces(text: str, request: Request) -> list[str]:
    """The texts to tokenise: the prompt, then the prompt with each continuation.

    White space at the end of a prompt goes to the continuation, where its token belongs.
    """
    if isinstance(request, Generate):
        return [text]
    continuations = request.choices if isinstance(request, Choose) else (request.continuation,)
    return [text.rstrip(), *(text + without_surrogates(c) for c in continuations)]


def check_sampling(sampling: Sampling) -> None:
    """Refuse what makes no sense.

    Raises:
        BadOption: a number is out of its range.
    """
    faults = {
        "max_tokens": sampling.max_tokens < 1,
        "temperature": not 0 <= sampling.temperature < float("inf"),
        "top_p": not 0 < sampling.top_p <= 1,
        "top_k": sampling.top_k < 0,
        "repetition_penalty": not 0 < sampling.repetition_penalty < float("inf"),
    }
    for name, wrong in faults.items():
        if wrong:
            raise BadOption(f"{name} cannot be {getattr(sampling, name)}", where="sampling")


def sampling_content(sampling: Sampling) -> dict[str, Any]:
    """What of the sampling decides the answer; a greedy one has no use for the seed and the rest."""
    content: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "stop": [ascii(stop) for stop in sampling.stop],
        "repetition_penalty": sampling.repetition_penalty,
    }
    if sampling.temperature > 0:
        for name in ("temperature", "top_p", "top_k", "seed"):
            content[name] = getattr(sampling, name)
    return content
