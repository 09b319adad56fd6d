"""Replies one after another: a model computes one at a time, the others wait their turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager

from evalsuite_train.chat.answer import Piece

Work = Callable[[threading.Event], Iterator[Piece]]
"""Starts one reply; it ends early once the event is set."""


class Full(Exception):
    """As many wait as may wait."""


class Queue:
    """Runs replies in a thread of its own, in the order in which they came.

    Args:
        most: how many may be computed or wait at a time.
    """

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, kept until the context is left.

        Raises:
            Full: as many wait as may.
        """
        if self._count >= self._most:
            raise Full
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    async def pieces(self, work: Work) -> AsyncGenerator[Piece, None]:
        """The pieces of one reply. Closing the iterator stops its computation within a token."""
        cancelled = threading.Event()
        try:
            async with self._turn, aclosing(self._run(work, cancelled)) as running:
                async for piece in running:
                    yield piece
        finally:
            cancelled.set()

    async def _run(self, work: Work, cancelled: threading.Event) -> AsyncGenerator[Piece, None]:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[Piece | None] = asyncio.Queue()

        def compute() -> None:
            try:
                for piece in work(cancelled):
                    loop.call_soon_threadsafe(arrived.put_nowait, piece)
            finally:
                loop.call_soon_threadsafe(arrived.put_nowait, None)

        running = loop.run_in_executor(self._thread, compute)
        while (piece := await arrived.get()) is not None:
            yield piece
        await running  # raises what the computation raised

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)
