"""The embedded engine: any causal language model that transformers loads, on a processor or a GPU."""

from __future__ import annotations

from typing import Any

from evalsuite.chat import ChatTemplate
from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._local import LocalEngine, window
from evalsuite.engines._model import Model
from evalsuite.engines._quantised import scheme_of
from evalsuite.engines._tokens import Tokens
from evalsuite.engines._weights import choose_device, load_model, parameters
from evalsuite.errors import BadCheckpoint, BadOption

_BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Tokens of one forward pass; on a processor, larger ones fall out of its caches."""

_CACHED_TOKENS = 16
"""Tokens that a batch may hold in its cache while it decodes, in multiples of the above."""

_ROWS = {"cpu": 32, "cuda": 128}
"""Answers that are generated together."""


class TransformersEngine(LocalEngine):
    """Log-likelihoods equal to those of plain forward passes; greedy text equal to ``generate``.

    Args:
        template: the chat template, or None for plain text. Prompts that ask for plain text get it.
        dtype: ``auto`` is float32 on a processor and the checkpoint's own on a GPU; ``int8`` and
            ``int4`` quantise the weights, see :mod:`evalsuite.engines._quantised`.
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
        tokens = Tokens(checkpoint, trust_remote_code=trust_remote_code)
        self.parameters = parameters(module)
        computed = str(module.dtype).removeprefix("torch.")
        scheme = scheme_of(dtype)
        self._description = {"dtype": dtype if scheme else computed, "device": device}
        if scheme:
            self._description["quantization"] = scheme.description
        elif checkpoint.quantization:
            self._description["quantization"] = checkpoint.quantization
        kind = "cpu" if device == "cpu" else "cuda"
        batch_tokens = batch_tokens or _BATCH_TOKENS[kind]
        super().__init__(
            Model(module),
            tokens,
            template,
            force_template=force_template,
            ends=_end_ids(module, tokens),
            context=window(checkpoint, tokens),
            batch_tokens=batch_tokens,
            cached_tokens=_CACHED_TOKENS * batch_tokens,
            rows=_ROWS[kind],
            identity=[
                checkpoint.fingerprint,
                self.name,
                scheme.description if scheme else computed,
            ],
        )

    @property
    def description(self) -> dict[str, Any]:
        """What may change an answer's digits."""
        import torch
        import transformers

        version = f"transformers {transformers.__version__}, torch {torch.__version__}"
        return {"name": self.name, "version": version, **self._description}


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
