"""Which requests to vLLM questions become, and how the answers become those of the questions.

Each tail takes its first token's log-probability from a request of the context, which all tails
share, and its last token's from a request of everything before that token. Both ask for single
log-probabilities after a prompt (``logprob_token_ids``), so all but a prompt's last block may come out
of the prefix cache. What lies between the two is read off the second one's prompt
(``prompt_logprobs``), where vLLM has rows only for tokens that it computes, not for those that it
finds in its cache (vllm#42245). A row that is wanted is computed whenever no other request shares a
block that reaches beyond the context. Whether one does is known beforehand, since the cache holds
nothing but the requests of one portion; where one does, the cache is not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from evalsuite.engines._vllm_frames import Declined, Job, Measured
from evalsuite.engines.base import Prepared
from evalsuite.request import Choose, Chosen, Failure, Scored, most_likely

Ids = tuple[int, ...]

_WANTED = 128
"""Ids that one request may ask for (vLLM's limit for ``logprob_token_ids``)."""

NOT_NUMBERS = Failure("engine_failed", "the model's logits are not numbers; try --dtype float32")


class Place(msgspec.Struct):
    """A prompt after which, or at whose end, something is asked by one question or several.

    Attributes:
        wanted: ids whose log-probabilities after it are asked for.
        rows: how many of its last tokens are asked for their log-probabilities too.
        readers: indices of the questions that wait for it.
        open: jobs that are not answered yet.
    """

    wanted: dict[int, float | None] = {}
    rows: int = 0
    readers: set[int] = set()
    open: int = 0
    likeliest: int = -1
    measured: tuple[tuple[float, bool], ...] = ()


class Portion:
    """Questions that are asked together, with nothing else in the prefix cache.

    Args:
        prepared: index and request, all with at least one tail.
        context: tokens of one row at most; None for any number.
        block: tokens of a block of the prefix cache.
        numbers: numbers for the jobs.

    Attributes:
        jobs: what to ask, in an order that puts a prefix before whatever begins with it.
    """

    def __init__(
        self,
        prepared: Iterable[tuple[int, Prepared]],
        *,
        context: int | None,
        block: int,
        numbers: Iterator[int],
    ) -> None:
        self._asked = dict(prepared)
        self._context = context
        self._places: dict[Ids, Place] = {}
        for index, item in self._asked.items():
            for tail in item.tails:
                opening, before = split(item.prompt, tail, context)
                self._want(opening, tail[0], index)
                place = self._want(before, tail[-1], index)
                place.rows = max(place.rows, len(tail) - 2)
        self._waits = dict.fromkeys(self._asked, 0)
        for place in self._places.values():
            for index in place.readers:
                self._waits[index] += 1
        self._parts: dict[int, tuple[Place, Ids]] = {}
        self.jobs = list(self._plan(block, numbers))

    def decline(self, answer: Declined) -> Iterator[tuple[int, Failure]]:
        """Fail the questions that wait for a job, once."""
        place, _ = self._parts.pop(answer.number)
        for index in sorted(place.readers):
            if self._waits[index] > 0:
                self._waits[index] = -1
                yield index, Failure("engine_failed", answer.message)

    def take(self, answer: Measured) -> Iterator[tuple[int, Chosen | Scored | Failure]]:
        """Note the answer to a job; yield the questions that it completes."""
        place, ids = self._parts.pop(answer.number)
        place.wanted.update(zip(ids, answer.logprobs, strict=True))
        place.likeliest = answer.likeliest
        place.measured = place.measured or answer.rows
        place.open -= 1
        if place.open:
            return
        for index in sorted(place.readers):
            self._waits[index] -= 1  # below zero where another place has failed
            if not self._waits[index]:
                yield index, self._response(self._asked[index])

    def _want(self, tokens: Ids, token: int, index: int) -> Place:
        place = self._places.setdefault(tokens, Place())
        place.wanted[token] = None
        place.readers.add(index)
        return place

    def _plan(self, block: int, numbers: Iterator[int]) -> Iterator[Job]:
        order = sorted(self._places)
        for at, tokens in enumerate(order):
            place = self._places[tokens]
            readable = True
            if place.rows:
                near = max(
                    common(tokens, other)
                    for other in [*order[max(at - 1, 0) : at], *order[at + 1 : at + 2]]
                )
                cached = min(near, len(tokens) - 1) // block * block
                readable = cached < len(tokens) - place.rows
            ids = tuple(place.wanted)
            for start in range(0, len(ids), _WANTED):
                part, number = ids[start : start + _WANTED], next(numbers)
                self._parts[number] = place, part
                place.open += 1
                yield Job(number, tokens, part, 0 if start else place.rows, readable)

    def _response(self, item: Prepared) -> Chosen | Scored | Failure:
        tails = [self._likelihood(item.prompt, tail) for tail in item.tails]
        if not all(math.isfinite(logprob) for logprob, _ in tails):
            return NOT_NUMBERS
        length = len(item.prompt)
        if isinstance(item.request, Choose):
            logprobs = tuple(logprob for logprob, _ in tails)
            return Chosen(most_likely(logprobs), logprobs, tuple(map(len, item.tails)), length)
        logprob, greedy = tails[0]
        return Scored(logprob, len(item.tails[0]), greedy, length)

    def _likelihood(self, prompt: Ids, tail: Ids) -> tuple[float, bool]:
        opening, before = split(prompt, tail, self._context)
        ends = [(self._places[opening], tail[0])]
        if len(tail) > 1:
            ends.append((self._places[before], tail[-1]))
        values = [(place.wanted[token], place.likeliest == token) for place, token in ends]
        middle = self._places[before].measured
        values += middle[len(middle) - max(len(tail) - 2, 0) :]
        sure = [(math.nan if value is None else value, greedy) for value, greedy in values]
        return math.fsum(value for value, _ in sure), all(greedy for _, greedy in sure)


def split(prompt: Ids, tail: Ids, context: int | None) -> tuple[Ids, Ids]:
    """What comes before the first token of a tail and before its last, cut on the left to fit."""
    tokens = prompt + tail
    if context is not None:
        tokens = tokens[-(context + 1) :]
    return tokens[: len(tokens) - len(tail)], tokens[:-1]


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two prompts share at their beginnings."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
