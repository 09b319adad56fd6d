"""An engine whose model computes in this process: what all of them share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalsuite.chat import NONE, ChatTemplate
from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._batching import Budget, release
from evalsuite.engines._decoding import generate
from evalsuite.engines._model import Model
from evalsuite.engines._preflight import Preflight
from evalsuite.engines._scoring import score
from evalsuite.engines._tokens import Tokens
from evalsuite.engines.base import Engine, Prepared
from evalsuite.errors import EngineFailed
from evalsuite.request import Choose, Chosen, Failure, Generate, Request, Response

Asked = list[tuple[int, Prepared]]
"""Index and request."""


class LocalEngine(Engine):
    """Prepares with the checkpoint's tokenizer, scores and decodes with its logits.

    Args:
        ends: ids that end an answer.
        context: how many tokens fit, prompt and answer together; None for any number.
        batch_tokens: tokens of one forward pass.
        cached_tokens: tokens that a batch may hold in its cache while it decodes.
        rows: answers that are generated together.
        identity: what decides an answer besides tokens and sampling.
    """

    def __init__(
        self,
        model: Model,
        tokens: Tokens,
        template: ChatTemplate | None,
        *,
        force_template: bool,
        ends: frozenset[int],
        context: int | None,
        batch_tokens: int,
        cached_tokens: int,
        rows: int,
        identity: Sequence[str],
    ) -> None:
        self._model: Model | None = model
        self._tokens = tokens
        self._ends = ends
        self.context = context
        self.template_name = template.name if template else NONE
        self._batch_tokens = batch_tokens
        self._cached_tokens = cached_tokens
        self._rows = rows
        self._preflight = Preflight(
            tokens,
            template,
            force_template=force_template,
            context=context,
            rows=model.rows,
            identity=identity,
        )

    def prepare(self, names: Sequence[str], requests: Sequence[Request]) -> list[Prepared]:
        """Render, tokenise and check; see :class:`evalsuite.engines._preflight.Preflight`.

        Raises:
            BadOption: sampling parameters that make no sense.
            BadCheckpoint: the chat template fails.
        """
        return self._preflight.prepare(names, requests)

    def answer(self, prepared: Sequence[Prepared]) -> Iterator[tuple[int, Response | Failure]]:
        """Answer what was prepared: choices and scores first, then texts, the longest first."""
        if self._model is None:
            raise EngineFailed("the engine was closed", hint="open another one")
        scored: Asked = []
        generated: Asked = []
        for index, item in enumerate(prepared):
            if item.failure is not None:
                yield index, item.failure
            elif isinstance(item.request, Generate):
                generated.append((index, item))
            elif isinstance(item.request, Choose) and not item.tails:
                yield index, Chosen(None, prompt_tokens=len(item.prompt))
            else:
                scored.append((index, item))
        yield from self._score(self._model, scored)
        yield from generate(
            self._model,
            self._tokens,
            generated,
            ends=self._ends,
            context=self.context,
            cached=Budget(self._cached_tokens),
            most=self._rows,
        )

    def _score(self, model: Model, scored: Asked) -> Iterator[tuple[int, Response | Failure]]:
        yield from score(model, scored, context=self.context, tokens=Budget(self._batch_tokens))

    def shown_prompt(self, prepared: Prepared) -> str:
        """The prompt's tokens as text, special tokens spelled out; what failed as it was asked."""
        if not prepared.prompt:
            return super().shown_prompt(prepared)
        return self._tokens.spelled(prepared.prompt)

    def close(self) -> None:
        """Let go of the weights."""
        self._model = None
        release()


def window(checkpoint: Checkpoint, tokens: Tokens) -> int | None:
    """How many tokens fit: as the configuration says, else the tokenizer; None for any number."""
    return checkpoint.context or tokens.longest
