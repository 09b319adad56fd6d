"""Continuous batching (Yu et al. 2022, Orca): an answer that ends leaves, and a waiting one takes its place."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from evalsuite.engines._answer import Row, choose
from evalsuite.engines._batching import Budget, describe, is_out_of_memory, release
from evalsuite.engines._native import NativeModel, Prefix
from evalsuite.engines._native_slots import Slots
from evalsuite.engines._tokens import Tokens
from evalsuite.request import Failure, Generated

_PROMPT_TOKENS = 1024
"""Tokens of prompts that are taken up in one pass, padding included."""

_TOGETHER = 8
"""Waiting prompts are taken up once this share of the slots, one in so many, is free."""


class Continuous:
    """Decodes the answers to prompts that begin with one ``prefix``.

    Args:
        ends: ids that end an answer.
        cached: tokens that all slots may hold together.
        most: slots at most.
    """

    def __init__(
        self,
        model: NativeModel,
        tokens: Tokens,
        ends: frozenset[int],
        prefix: Prefix | None,
        *,
        cached: Budget,
        most: int,
    ) -> None:
        self._model, self._tokens, self._ends, self._prefix = model, tokens, ends, prefix
        self._skipped = 0 if prefix is None else prefix.length
        self._cached, self._most = cached, most
        self._slots: Slots | None = None
        self._rows: list[Row] = []

    def answers(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Generated | Failure]]:
        """Each answer as soon as it is complete; the longest expected are begun first.

        Out of memory, the answers under way are begun again with half the room. After any other
        fault they are tried one by one, and one that fails alone is a :class:`Failure`.
        """
        waiting = deque(sorted(rows, key=self._cost, reverse=True))
        alone: deque[Row] = deque()
        while waiting or alone or self._rows:
            try:
                if not self._rows and alone:
                    yield from self._take([alone.popleft()], room=1)
                elif not alone and self._may_take(waiting):
                    yield from self._take(self._next(waiting), room=self._most)
                if self._rows:
                    yield from self._step()
            except Exception as fault:
                hurt, self._rows, self._slots = self._rows, [], None
                failure = describe(fault)
                if len(hurt) == 1:
                    yield hurt[0], failure
                elif is_out_of_memory(fault):
                    release()
                    self._cached.shrink()
                    waiting.extendleft(reversed(hurt))
                else:
                    alone.extend(hurt)

    def _cost(self, row: Row) -> int:
        return len(row.prompt) - self._skipped + row.budget

    def _may_take(self, waiting: deque[Row]) -> bool:
        """Whether waiting rows are taken up now."""
        if not waiting:
            return False
        if not self._rows or self._slots is None:
            return True
        slots = self._slots
        if slots.free * _TOGETHER < slots.count:
            return False
        # where those that wait are much shorter, more of them fit into slots made for them
        return slots.count == self._most or 2 * self._cost(waiting[0]) > slots.length

    def _next(self, waiting: deque[Row]) -> list[Row]:
        """The rows of one pass, off the queue."""
        if not self._rows:
            self._slots = None
        room = self._room(waiting[0]) if self._slots is None else self._slots.free
        taken: list[Row] = []
        longest = 0
        while waiting and len(taken) < room:
            longest = max(longest, len(waiting[0].prompt) - self._skipped)
            if taken and longest * (len(taken) + 1) > _PROMPT_TOKENS:
                break
            taken.append(waiting.popleft())
        return taken

    def _room(self, longest: Row) -> int:
        return max(1, min(self._most, self._cached.tokens // max(1, self._cost(longest))))

    def _take(self, rows: list[Row], *, room: int) -> Iterator[tuple[Row, Generated]]:
        """Read prompts, and choose the first token of their answers."""
        for row in rows:
            row.start(self._model.vocabulary, self._model.device)
        self._rows += rows  # before anything can fail: whatever is under way is recovered
        if self._slots is None:
            count = min(room, self._room(rows[0]))
            self._slots = Slots(self._model, count, self._cost(rows[0]), self._prefix)
        logits = self._slots.add([row.prompt[self._skipped :] for row in rows])
        choose(rows, logits, self._tokens.size)
        yield from self._finished(len(self._rows) - len(rows))

    def _step(self) -> Iterator[tuple[Row, Generated]]:
        assert self._slots is not None
        logits = self._slots.step([row.generated[-1] for row in self._rows])
        choose(self._rows, logits, self._tokens.size)
        yield from self._finished(0)

    def _finished(self, first: int) -> Iterator[tuple[Row, Generated]]:
        """The answers that the last token completed, from slot ``first`` on; they leave."""
        assert self._slots is not None
        done = []
        for slot in reversed(range(first, len(self._rows))):
            row = self._rows[slot]
            answer = row.finished(self._tokens, self._ends)
            if answer is not None:
                self._slots.drop(slot)
                self._rows[slot] = self._rows[-1]
                self._rows.pop()
                done.append((row, answer))
        yield from done
