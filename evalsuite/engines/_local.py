"""An engine whose model computes in this process: what all of them share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._batching import Budget, release
from evalsuite.engines._decoding import generate
from evalsuite.engines._loading import Loading
from evalsuite.engines._model import Model
from evalsuite.engines._preflight import Preflight
from evalsuite.engines._scoring import score
from evalsuite.engines._tokens import Tokens
from evalsuite.engines.base import Asked, Engine, Footprint, Prepared, Work, apart
from evalsuite.engines.options import ModelOptions
from evalsuite.errors import EngineFailed
from evalsuite.request import Failure, Request, Response

_NOTHING = Work(
    prefill_tokens=0, decode_tokens=0, decode_steps=0, prefill_seconds=0.0, decode_seconds=0.0
)


class Loaded(NamedTuple):
    """What is known once the weights are there.

    Attributes:
        parameters: number of weights.
        ends: ids that end an answer.
        description: what may change an answer's digits.
    """

    model: Model
    parameters: int
    ends: frozenset[int]
    footprint: Footprint
    description: dict[str, Any]


class LocalEngine(Engine):
    """Prepares with the checkpoint's tokenizer, scores and decodes with its logits.

    Args:
        loading: the model, perhaps still on its way; requests are prepared meanwhile.
        context: how many tokens fit, prompt and answer together; None for any number.
        embedding_rows: ids from here on cannot be asked.
        batch_tokens: tokens of one forward pass.
        cached_tokens: tokens that a batch may hold in its cache while it decodes.
        rows: answers that are generated together.
        identity: what decides an answer besides tokens and sampling.
    """

    def __init__(
        self,
        loading: Loading[Loaded],
        tokens: Tokens,
        options: ModelOptions,
        *,
        context: int | None,
        embedding_rows: int,
        batch_tokens: int,
        cached_tokens: int,
        rows: int,
        identity: Sequence[str],
    ) -> None:
        self._loading: Loading[Loaded] | None = loading
        self._tokens = tokens
        self.context = context
        self.template_name = options.template_name
        self._batch_tokens = batch_tokens
        self._cached_tokens = cached_tokens
        self._rows = rows
        self._preflight = Preflight(
            tokens,
            options.template,
            force_template=options.force_template,
            context=context,
            rows=embedding_rows,
            identity=identity,
        )

    @property
    def _loaded(self) -> Loaded:
        if self._loading is None:
            raise EngineFailed("the engine was closed", hint="open another one")
        return self._loading.result()

    @property
    def _model(self) -> Model:
        return self._loaded.model

    def ready(self) -> None:
        """Wait for the weights; see :meth:`evalsuite.engines.base.Engine.ready`."""
        _ = self._loaded

    @property
    def parameters(self) -> int:
        """Number of the checkpoint's weights, tied ones counted once; waits for them."""
        return self._loaded.parameters

    @property
    def footprint(self) -> Footprint:
        """Counted when the weights were loaded; waits for them."""
        return self._loaded.footprint

    @property
    def description(self) -> dict[str, Any]:
        """What may change an answer's digits; waits for the weights."""
        return {"name": self.name, **self._loaded.description}

    def prepare(self, names: Sequence[str], requests: Sequence[Request]) -> list[Prepared]:
        """Render, tokenise and check; see :class:`evalsuite.engines._preflight.Preflight`.

        Raises:
            BadOption: sampling parameters that make no sense.
            BadCheckpoint: the chat template fails.
        """
        return self._preflight.prepare(names, requests)

    def answer(self, prepared: Sequence[Prepared]) -> Iterator[tuple[int, Response | Failure]]:
        """Answer what was prepared: choices and scores first, then texts, the longest first."""
        model, ends, meter = self._model, self._loaded.ends, self._model.meter
        answers = self._answers(model, ends, prepared)
        while True:
            meter.resume()
            try:
                found = next(answers, None)
            finally:
                meter.pause()
            if found is None:
                return
            yield found

    def _answers(
        self, model: Model, ends: frozenset[int], prepared: Sequence[Prepared]
    ) -> Iterator[tuple[int, Response | Failure]]:
        known, scored, generated = apart(prepared)
        yield from known
        model.meter.generating = False
        yield from self._score(model, scored)
        model.meter.generating = True
        yield from generate(
            model,
            self._tokens,
            generated,
            ends=frozenset() if self.ignore_ends else ends,
            context=self.context,
            cached=Budget(self._cached_tokens),
            most=self._rows,
        )

    def _score(self, model: Model, scored: Asked) -> Iterator[tuple[int, Response | Failure]]:
        yield from score(model, scored, context=self.context, tokens=Budget(self._batch_tokens))

    @property
    def work(self) -> Work:
        """As the meter counted it; nothing while the weights load."""
        there = self._loading is not None and self._loading.done
        return self._model.meter.work if there else _NOTHING

    def shown_prompt(self, prepared: Prepared) -> str:
        """The prompt's tokens as text, special tokens spelled out; what failed as it was asked."""
        if not prepared.prompt:
            return super().shown_prompt(prepared)
        return self._tokens.spelled(prepared.prompt)

    def close(self) -> None:
        """Let go of the weights, or stop loading them."""
        if self._loading is not None:
            loading, self._loading = self._loading, None
            loading.stop()
        release()


def window(checkpoint: Checkpoint, tokens: Tokens) -> int | None:
    """How many tokens fit: as the configuration says, else the tokenizer; None for any number."""
    return checkpoint.context or tokens.longest
