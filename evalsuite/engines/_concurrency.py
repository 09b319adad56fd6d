"""How many requests a server gets at once: more while it keeps up, fewer when it says no."""

from __future__ import annotations

import asyncio
import time

_START = 8
"""Requests at once in the beginning."""

_SLOWER = 4.0
"""No more requests are added while they take this many times as long as the fastest did."""

_SMOOTHING = 0.1


class Limiter:
    """Additive increase, multiplicative decrease (Chiu and Jain 1989, as TCP does it).

    A round without trouble adds one request; before the first trouble, every answer does. A refusal for load (HTTP 429, 5xx) or a time-out
    halves the number, at most once for all requests that were under way together. Longer waits
    alone only stop the growth: a server that batches is slower for each and faster for all.

    Args:
        most: never more than this many requests at once.

    Attributes:
        limit: how many are let through now; the whole part counts.
        highest: the most that were under way at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = float(min(_START, most))
        self.active = 0
        self.highest = 0
        self._free = asyncio.Condition()
        self._halved = 0.0
        self._resume = 0.0
        self._usual: dict[str, float] = {}
        self._fastest: dict[str, float] = {}

    async def enter(self) -> float:
        """Wait for a place, and for the end of a pause; gives the time at which it began."""
        async with self._free:
            await self._free.wait_for(lambda: self.active < int(self.limit))
            self.active += 1
            self.highest = max(self.highest, self.active)
        try:
            while (wait := self._resume - time.monotonic()) > 0:
                await asyncio.sleep(wait)
        except BaseException:
            await self.leave()
            raise
        return time.monotonic()

    async def leave(self) -> None:
        """Give the place to another."""
        async with self._free:
            self.active -= 1
            self._free.notify_all()

    def answered(self, kind: str, began: float) -> None:
        """An answer came; to be called before its place is given away.

        Waits are only compared among requests of one kind.
        """
        took = time.monotonic() - began
        usual = self._usual.get(kind, took)
        usual += _SMOOTHING * (took - usual)
        self._usual[kind] = usual
        self._fastest[kind] = fastest = min(self._fastest.get(kind, usual), usual)
        if usual <= _SLOWER * fastest and self.active >= int(self.limit):
            step = 1 / self.limit if self._halved else 1.0
            self.limit = min(float(self._most), self.limit + step)

    def refused(self, began: float, pause: float | None = None) -> None:
        """The server had too much to do; ``pause``: seconds in which it wants to hear nothing."""
        if pause:
            self._resume = max(self._resume, time.monotonic() + pause)
        if began > self._halved:
            self._halved = time.monotonic()
            self.limit = max(1.0, self.limit / 2)
