"""The embedded engine: any causal language model that transformers loads, on a processor or a GPU."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import msgspec

from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._batching import describe, is_out_of_memory
from evalsuite.engines._endings import end_ids
from evalsuite.engines._foreseen import Foreseen, foreseen
from evalsuite.engines._loading import Loading
from evalsuite.engines._local import Loaded, LocalEngine, window
from evalsuite.engines._meter import footprint
from evalsuite.engines._model import Model
from evalsuite.engines._native import NativeModel, is_native
from evalsuite.engines._native_loading import read_native
from evalsuite.engines._quantised import scheme_of
from evalsuite.engines._tokens import Tokens
from evalsuite.engines._weights import check_loadable, choose_device, load_model, parameters
from evalsuite.engines.options import DEFAULT, ModelOptions
from evalsuite.errors import BadCheckpoint, EngineFailed

_BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Tokens of one forward pass; on a processor, larger ones fall out of its caches."""

_CACHED_TOKENS = 16
"""Tokens that a batch may hold in its cache while it decodes, in multiples of the above."""

_ROWS = {"cpu": 32, "cuda": 128}
"""Answers that are generated together."""


class TransformersEngine(LocalEngine):
    """Log-likelihoods equal to those of plain forward passes; greedy text equal to ``generate``.

    The weights load in a thread while requests are prepared. Options, tokenizer and the files' headers
    are checked before; what else is wrong with the weights, :meth:`ready` raises.

    Args:
        options: the dtype ``auto`` is float32 on a processor and the checkpoint's own on a GPU; ``int8``
            and ``int4`` quantise the weights, see :mod:`evalsuite.engines._quantised`. The device
            ``auto`` is the first GPU, else the processor. Padding counts among ``batch_tokens``; fewer
            take less memory.
        native: use this project's own forward pass (:mod:`evalsuite.engines._native`) where it has
            one for the architecture; without it, and for all others, transformers' own modules.

    Attributes:
        context: how many tokens fit, prompt and answer together; None for any number.

    Raises:
        BadCheckpoint: weights or tokenizer are missing, damaged or do not fit together.
        BadOption: an unknown dtype or device.
        EngineUnavailable: the device or a package is not here.
        EngineFailed: not enough memory for the weights.
    """

    name = "transformers"

    def __init__(
        self, checkpoint: Checkpoint, options: ModelOptions = DEFAULT, *, native: bool = True
    ) -> None:
        device = choose_device(options.device)
        options = msgspec.structs.replace(options, device=device)
        check_loadable(checkpoint, dtype=options.dtype, device=device)
        tokens = Tokens(checkpoint, trust_remote_code=options.trust_remote_code)
        loading = Loading(lambda: _load(checkpoint, tokens, options, native=native))
        known = foreseen(checkpoint, options.dtype, device) or _seen(loading)
        scheme = scheme_of(options.dtype)
        kind = "cpu" if device == "cpu" else "cuda"
        batch_tokens = options.batch_tokens or _BATCH_TOKENS[kind]
        super().__init__(
            loading,
            tokens,
            options,
            context=window(checkpoint, tokens),
            embedding_rows=known.rows,
            batch_tokens=batch_tokens,
            cached_tokens=_CACHED_TOKENS * batch_tokens,
            rows=_ROWS[kind],
            identity=[
                checkpoint.fingerprint,
                self.name,
                scheme.description if scheme else known.dtype,
            ],
        )


def _seen(loading: Loading[Loaded]) -> Foreseen:
    """What nothing but the weights can tell, waited for."""
    try:
        loaded = loading.result()
    except BaseException:
        loading.stop()
        raise
    return Foreseen(str(loaded.description["dtype"]), loaded.model.rows)


def _load(checkpoint: Checkpoint, tokens: Tokens, options: ModelOptions, *, native: bool) -> Loaded:
    dtype, device = options.dtype, options.device
    try:
        module = None
        if native and device == "cpu":
            module = read_native(checkpoint, "float32" if dtype == "auto" else dtype)
        own = module is not None
        if module is None:
            module = load_model(
                checkpoint,
                dtype=dtype,
                device=device,
                trust_remote_code=options.trust_remote_code,
            )
            own = native and is_native(module)
        return _described(module, own, checkpoint, tokens, options)
    except Exception as fault:
        if not is_out_of_memory(fault):
            raise
        raise EngineFailed(
            f"not enough memory for its weights: {describe(fault).message}",
            where=str(checkpoint.path),
            hint="free some, or give --dtype bfloat16, int8 or int4",
        ) from None


def _described(
    module: Any, own: bool, checkpoint: Checkpoint, tokens: Tokens, options: ModelOptions
) -> Loaded:
    """The module as a model, with all that was to be read off it; a native one takes its weights."""
    import torch

    if module.get_output_embeddings() is None:
        raise BadCheckpoint(
            f"{type(module).__name__} does not predict tokens", where=str(checkpoint.path)
        )
    count, scheme = parameters(module), scheme_of(options.dtype)
    description = {
        "version": f"transformers {metadata.version('transformers')}, torch {torch.__version__}",
        "dtype": options.dtype if scheme else str(module.dtype).removeprefix("torch."),
        "device": options.device,
    }
    quantization = scheme.description if scheme else checkpoint.quantization
    if quantization:
        description["quantization"] = quantization
    description["forward"] = "native" if own else "transformers"
    ends = end_ids(
        getattr(module.generation_config, "eos_token_id", None),
        getattr(module.config, "eos_token_id", None),
        tokens.eos_id,
    )
    held = footprint(module, count)
    model = NativeModel(module) if own else Model(module)
    held = msgspec.structs.replace(held, weight_bytes=model.weight_bytes)
    return Loaded(model, count, ends, held, description)
