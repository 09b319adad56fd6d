"""The contract of an engine.

``prepare`` turns requests into :class:`Prepared` (rendered, tokenised, checked) without computing
anything; ``answer`` computes. Between the two stands the planner, which drops what is already known.
Weights may load meanwhile: ``ready`` waits for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from evalsuite.request import Choose, Chosen, Failure, Generate, Request, Response


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


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine has computed since it was opened; None where it cannot know.

    Attributes:
        prefill_tokens: tokens of prompts and choices that went through the model, padding included.
        decode_tokens: tokens fed back while texts were generated, one a row and step.
        decode_steps: forward passes of decoding.
        prefill_seconds, decode_seconds: wall time of the two; what an engine does besides, such as
            putting batches together, belongs to the pass that it follows.
        step_seconds: durations of the latest decoding steps.
        device_peak_bytes: the most that was held of a GPU's memory.
    """

    prefill_tokens: int | None = None
    decode_tokens: int | None = None
    decode_steps: int | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    step_seconds: tuple[float, ...] = ()
    device_peak_bytes: int | None = None


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """What a loaded model holds; None where the engine cannot know.

    Attributes:
        weight_bytes: weights as they lie in memory, tied ones once.
        kv_bytes_per_token: keys and values of one token in all layers.
        body_parameters: weights that every token is multiplied with: neither embedding nor head.
        head_parameters: those that a token is multiplied with where its logits are wanted.
    """

    weight_bytes: int | None = None
    kv_bytes_per_token: int | None = None
    body_parameters: int | None = None
    head_parameters: int | None = None


Asked = list[tuple[int, Prepared]]
"""Index and request."""


class Engine(ABC):
    """Answers requests. Every engine passes ``tests/engines/contract.py``.

    Attributes:
        name: as in ``--engine``.
        takes_portions: whether :meth:`prepare` may be called with a part of the requests at a time.
        ignore_ends: texts go on to their limit, whatever token or stop string would end them; for
            measuring speed only.
        context: how many tokens fit, prompt and answer together; None for any number.
    """

    name: str
    takes_portions: bool = True
    ignore_ends: bool = False
    context: int | None = None

    def ready(self) -> None:  # noqa: B027  (an engine that has loaded when it opens has nothing to do)
        """Wait until the weights are there, which an engine may load while requests are prepared.

        ``answer``, ``parameters``, ``description`` and ``footprint`` wait for as much as they need;
        ``prepare``, ``work`` and ``close`` do not, unless nothing but the weights can tell.

        Raises:
            EvalsuiteError: the weights do not load, as the engine's constructor says.
        """

    @property
    def parameters(self) -> int | None:
        """Number of weights, where the engine can know."""
        return None

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Name, version, dtype, device: what may change an answer's digits. JSON values."""

    @property
    def work(self) -> Work:
        """What was computed so far, for ``run.json`` and ``evalsuite bench``."""
        return Work()

    @property
    def footprint(self) -> Footprint:
        """What the loaded model holds, for ``evalsuite bench``."""
        return Footprint()

    @property
    def usage(self) -> dict[str, float]:
        """Requests, tokens and money spent since the engine was opened, where somebody counts them."""
        return {}

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
        """Release memory and processes, and stop loading; may be called twice."""


def apart(
    prepared: Sequence[Prepared],
) -> tuple[list[tuple[int, Response | Failure]], Asked, Asked]:
    """What needs no model (it failed in preparation, or has no choices), what is scored, what is written."""
    known: list[tuple[int, Response | Failure]] = []
    scored: Asked = []
    generated: Asked = []
    for index, item in enumerate(prepared):
        if item.failure is not None:
            known.append((index, item.failure))
        elif isinstance(item.request, Generate):
            generated.append((index, item))
        elif isinstance(item.request, Choose) and not item.tails:
            known.append((index, Chosen(None, prompt_tokens=len(item.prompt))))
        else:
            scored.append((index, item))
    return known, scored, generated
