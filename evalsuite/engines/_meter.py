"""What a model in this process computes: tokens and seconds, prefill and decoding kept apart."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from evalsuite.engines.base import Footprint, Work

STEPS = 4096
"""Decoding steps whose durations are remembered."""


class Meter:
    """Counts forward passes. From the start of one to the start of the next, time is the first one's.

    So what belongs to a pass (drawing a token, finding an answer's end, waiting for a GPU) is
    counted with it. While whoever asked is busy with an answer, the clock stands.

    Attributes:
        generating: whether texts are generated; choices and scores have no decoding.
    """

    def __init__(self) -> None:
        self.generating = False
        self._decoding = False
        self._since: float | None = None
        self._stepped: float | None = None
        self._tokens = [0, 0]
        self._seconds = [0.0, 0.0]
        self._steps = 0
        self._durations: deque[float] = deque(maxlen=STEPS)

    def passed(self, ids: Any) -> None:
        """A pass over ``ids`` (rows, time) begins, padding included."""
        self.count(int(ids.numel()), decoding=self.generating and ids.shape[-1] == 1)

    def count(self, tokens: int, *, decoding: bool) -> None:
        """A pass over so many tokens begins."""
        now = time.perf_counter()
        self._lap(now)
        if decoding:
            self._steps += 1
        self._stepped = now if decoding else None
        self._decoding = decoding
        self._tokens[decoding] += tokens

    def resume(self) -> None:
        """The engine goes on."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """The engine hands an answer over, or is done."""
        self._lap(time.perf_counter())
        self._since = None

    def _lap(self, now: float) -> None:
        if self._since is not None:
            self._seconds[self._decoding] += now - self._since
            self._since = now
        if self._stepped is not None:
            self._durations.append(now - self._stepped)
            self._stepped = None

    @property
    def work(self) -> Work:
        """All since the start, with the most that torch held of a GPU's memory."""
        import torch

        cuda: Any = torch.cuda
        gpu = cuda.is_available() and cuda.is_initialized()
        return Work(
            prefill_tokens=self._tokens[0],
            decode_tokens=self._tokens[1],
            decode_steps=self._steps,
            prefill_seconds=self._seconds[0],
            decode_seconds=self._seconds[1],
            step_seconds=tuple(self._durations),
            device_peak_bytes=cuda.max_memory_allocated() if gpu else None,
        )


def footprint(module: Any, parameters: int) -> Footprint:
    """Of a causal language model of transformers with so many weights; their bytes are left out."""
    embedding, head = (
        module.get_input_embeddings().weight,
        module.get_output_embeddings().weight,
    )
    tables = {id(table): int(table.numel()) for table in (embedding, head)}
    return Footprint(
        kv_bytes_per_token=_kv_bytes(module),
        body_parameters=parameters - sum(tables.values()),
        head_parameters=int(head.numel()),
    )


def _kv_bytes(module: Any) -> int | None:
    """Bytes of one token's keys and values in all layers, for attention of the usual kind."""
    config = module.config.get_text_config()
    layers = getattr(config, "num_hidden_layers", None)
    heads = getattr(config, "num_attention_heads", None)
    width = getattr(config, "hidden_size", None)
    if not (layers and heads and width):
        return None
    per_head = getattr(config, "head_dim", None) or width // heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * layers * shared * per_head * module.dtype.itemsize)
