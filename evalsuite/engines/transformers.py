"""The embedded engine: any causal language model that transformers loads, on a processor or a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from evalsuite.chat import NONE, ChatTemplate
from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._batching import Budget
from evalsuite.engines._decoding import generate
from evalsuite.engines._model import Model
from evalsuite.engines._preflight import Preflight
from evalsuite.engines._scoring import score
from evalsuite.engines._tokens import Tokens
from evalsuite.engines._weights import choose_device, load_model
from evalsuite.engines.base import Engine, Prepared
from evalsuite.errors import BadCheckpoint, BadOption, EngineFailed
from evalsuite.request import Choose, Chosen, Failure, Generate, Request, Response

_BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Tokens of one forward pass; on a processor, larger ones fall out of its caches."""

_CACHED_TOKENS = 16
"""Tokens that a batch may hold in its cache while it decodes, in multiples of the above."""

_ROWS = {"cpu": 32, "cuda": 128}
"""Answers that are generated together."""


class TransformersEngine(Engine):
    """Log-likelihoods equal to those of plain forward passes; greedy text equal to ``generate``.

    Args:
        template: the chat template, or None for plain text. Prompts that ask for plain text get it.
        dtype: ``auto`` is float32 on a processor and the checkpoint's own on a GPU.
        device: ``auto`` is the first GPU, else the processor.
        batch_tokens: tokens of one forward pass, padding included; fewer take less memory.
        force_template: use the template even where the prompt asks for plain text.

    Attributes:
        context: how many tokens fit, prompt and answer together; None for any number.
        parameters: number of the checkpoint's weights, tied ones counted once.

    Raises:
        BadCheckpoint: weights or tokenizer are missing, damaged or do not fit together.
        BadOption: an unknown dtype or device, or no room for a token.
        EngineUnavailable: the device or a package is not here.
    """

    name = "transformers"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        template: ChatTemplate | None,
        dtype: str = "auto",
        device: str = "auto",
        batch_tokens: int | None = None,
        trust_remote_code: bool = False,
        force_template: bool = False,
    ) -> None:
        if batch_tokens is not None and batch_tokens < 1:
            raise BadOption(f"a batch of {batch_tokens} tokens holds nothing", where="batch_tokens")
        device = choose_device(device)
        module = load_model(
            checkpoint, dtype=dtype, device=device, trust_remote_code=trust_remote_code
        )
        if module.get_output_embeddings() is None:
            raise BadCheckpoint(
                f"{type(module).__name__} does not predict tokens", where=str(checkpoint.path)
            )
        self._tokens = Tokens(checkpoint, trust_remote_code=trust_remote_code)
        self._model: Model | None = Model(module)
        self._ends = _end_ids(module, self._tokens)
        self.context = checkpoint.context or self._tokens.longest
        self.parameters = sum(p.numel() for p in module.parameters())
        self.template_name = template.name if template else NONE
        self._dtype = str(module.dtype).removeprefix("torch.")
        self._device = device
        kind = "cpu" if device == "cpu" else "cuda"
        self._rows = _ROWS[kind]
        self._batch_tokens = batch_tokens or _BATCH_TOKENS[kind]
        self._preflight = Preflight(
            self._tokens,
            template,
            force_template=force_template,
            context=self.context,
            rows=self._model.rows,
            identity=[checkpoint.fingerprint, self.name, self._dtype],
        )

    @property
    def description(self) -> dict[str, Any]:
        """What may change an answer's digits."""
        import torch
        import transformers

        return {
            "name": self.name,
            "version": f"transformers {transformers.__version__}, torch {torch.__version__}",
            "dtype": self._dtype,
            "device": self._device,
        }

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
        scored, generated = [], []
        for index, item in enumerate(prepared):
            if item.failure is not None:
                yield index, item.failure
            elif isinstance(item.request, Generate):
                generated.append((index, item))
            elif isinstance(item.request, Choose) and not item.tails:
                yield index, Chosen(None, prompt_tokens=len(item.prompt))
            else:
                scored.append((index, item))
        yield from score(
            self._model, scored, context=self.context, tokens=Budget(self._batch_tokens)
        )
        yield from generate(
            self._model,
            self._tokens,
            generated,
            ends=self._ends,
            context=self.context,
            cached=Budget(_CACHED_TOKENS * self._batch_tokens),
            most=self._rows,
        )

    def shown_prompt(self, prepared: Prepared) -> str:
        """The prompt's tokens as text, special tokens spelled out; what failed as it was asked."""
        if not prepared.prompt:
            return super().shown_prompt(prepared)
        return self._tokens.spelled(prepared.prompt)

    def close(self) -> None:
        """Let go of the weights."""
        from evalsuite.engines._batching import release

        self._model = None
        release()


def _end_ids(module: Any, tokens: Tokens) -> frozenset[int]:
    """Every id that someone says ends an answer: generation settings, configuration, tokenizer."""
    ends: set[int] = set()
    for said in (
        getattr(module.generation_config, "eos_token_id", None),
        getattr(module.config, "eos_token_id", None),
        tokens.eos_id,
    ):
        listed = said if isinstance(said, (list, tuple)) else [said]
        ends |= {int(i) for i in listed if i is not None}
    return frozenset(ends)
