"""Messages between the two cells: JSON, each behind its length in four bytes."""

from __future__ import annotations

import json
import os
from typing import Any

from .values import Json, Unreadable

MOST_BYTES = 64 << 20
"""A longer message is refused."""


class Gone(Exception):
    """The other end was closed."""


class Channel:
    """One end of a connected socket, given by its file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, message: Json) -> None:
        """Raises: Gone; ValueError for a message that is too long."""
        data = json.dumps(message, check_circular=False).encode("ascii")
        if len(data) > MOST_BYTES:
            raise ValueError(f"a value of {len(data) >> 20} MiB does not fit into a message")
        rest = memoryview(len(data).to_bytes(4, "big") + data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            raise Gone from None

    def receive(self) -> Any:
        """The next message. Raises: Gone; Unreadable."""
        length = int.from_bytes(self._exactly(4), "big")
        if length > MOST_BYTES:
            raise Unreadable(f"a message of {length >> 20} MiB")
        data = self._exactly(length)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as fault:
            raise Unreadable(f"not JSON: {type(fault).__name__}") from None

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            try:
                part = os.read(self._descriptor, min(count, 1 << 20))
            except OSError:
                raise Gone from None
            if not part:
                raise Gone
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
