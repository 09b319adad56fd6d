"""The contract of an engine.

``prepare`` turns requests into :class:`Prepared` (rendered, tokenised, checked) without computing
anything; ``answer`` computes. Between the two stands the planner, which drops what is already known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from evalsuite.request import Failure, Request, Response


class Prepared(msgspec.Struct, frozen=True):
    """A request ready to be answered.

    Attributes:
        name: ``task/sample``, for messages and for engines that look answers up.
        key: content key of everything that decides the answer; requests with equal keys are asked once.
        prompt: token ids of the prompt, BOS included; empty where the engine has no tokenizer.
        tails: token ids of each choice or of the continuation; empty for generation.
        failure: set when the request cannot be asked at all.
        truncated: tokens dropped on the left to make it fit.
    """

    name: str
    request: Request
    key: str
    prompt: tuple[int, ...] = ()
    tails: tuple[tuple[int, ...], ...] = ()
    failure: Failure | None = None
    truncated: int = 0


class Engine(ABC):
    """Answers requests. Every engine passes ``tests/engines/contract.py``.

    Attributes:
        name: as in ``--engine``.
        parameters: number of weights, where the engine can know.
    """

    name: str
    parameters: int | None = None

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Name, version, dtype, device: what may change an answer's digits. JSON values."""

    @abstractmethod
    def prepare(self, names: Sequence[str], requests: Sequence[Request]) -> list[Prepared]:
        """Render, tokenise and check requests, in order and in one batch.

        A request that cannot be asked comes back with ``failure`` set; nothing is dropped.
        """

    @abstractmethod
    def answer(self, prepared: Sequence[Prepared]) -> Iterator[tuple[int, Response | Failure]]:
        """Answer, in any order, yielding (index into ``prepared``, response) as each is done.

        Every index comes exactly once. An answer does not depend on the other requests.
        """

    def shown_prompt(self, prepared: Prepared) -> str:
        """The exact text that the model reads, special tokens spelled out, for ``--dry-run``."""
        return prepared.request.prompt.full

    def close(self) -> None:  # noqa: B027  (an engine without resources has nothing to do)
        """Release memory and processes; may be called twice."""
