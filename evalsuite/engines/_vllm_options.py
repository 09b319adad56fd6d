"""What the user may hand through to vLLM, and what the engine decides for him."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from evalsuite.errors import BadOption

BATCH_INVARIANT = "batch_invariant"
"""An option of our own: vLLM reads it from the environment."""

_OURS = {
    "model": "--model",
    "tokenizer": "--model",
    "skip_tokenizer_init": "--model",
    "dtype": "--dtype",
    "device": "--device",
    "trust_remote_code": "--trust-remote-code",
    "max_num_batched_tokens": "--batch-tokens",
    "enable_prefix_caching": "",
    "disable_log_stats": "",
    "data_parallel_size": "one run a GPU",
    "speculative_config": "",
    "logprobs_mode": "",
}
"""Options that are set elsewhere, or that answers depend on."""

_CPU_CACHE = 4 << 30
"""Bytes of keys and values on a processor, at most; vLLM's own default takes nearly all memory."""


def parse_options(options: Mapping[str, str]) -> dict[str, Any]:
    """Values as JSON where they are JSON, else as text: ``tensor_parallel_size=2``.

    Raises:
        BadOption: the engine decides this itself, or it is no name.
    """
    parsed: dict[str, Any] = {}
    for name, value in options.items():
        where = f"--engine-option {name}"
        if name in _OURS:
            hint = f"see {_OURS[name]}" if _OURS[name] else "leave it out"
            raise BadOption("the engine decides this itself", where=where, hint=hint)
        if not name.isidentifier():
            raise BadOption("not the name of an option", where=where, hint="KEY=VALUE")
        try:
            parsed[name] = json.loads(value)
        except ValueError:
            parsed[name] = value
    longest = parsed.get("max_model_len", 1)
    if not isinstance(longest, int) or longest < 1:
        raise BadOption("a number of tokens", where="--engine-option max_model_len")
    if not isinstance(parsed.get(BATCH_INVARIANT, False), bool):
        raise BadOption("true or false", where=f"--engine-option {BATCH_INVARIANT}")
    return parsed


def arguments(options: Mapping[str, Any], *, cpu: bool, batch_tokens: int | None) -> dict[str, Any]:
    """Arguments of vLLM's ``EngineArgs``; the user's own win.

    On a processor, compiling takes longer than it saves (15 s for 7%), and small blocks waste less of
    what is shared: vLLM takes 128 tokens, its kernels any multiple of 32.
    """
    chosen: dict[str, Any] = {}
    if batch_tokens is not None:
        chosen["max_num_batched_tokens"] = batch_tokens
    if cpu:
        chosen |= {"enforce_eager": True, "block_size": 32}
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            chosen["kv_cache_memory_bytes"] = min(_CPU_CACHE, _available_memory() // 4)
    elsewhere = (BATCH_INVARIANT, "max_model_len")
    return chosen | {name: value for name, value in options.items() if name not in elsewhere}


def environment(options: Mapping[str, Any], device: str) -> dict[str, str]:
    """The worker's environment: nothing is sent home, and prompts may fill the context exactly."""
    settings = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if options.get(BATCH_INVARIANT):
        settings["VLLM_BATCH_INVARIANT"] = "1"
    kind, _, index = device.partition(":")
    if kind == "cpu":  # compiling three small functions of the sampler takes half a minute
        settings["TORCHDYNAMO_DISABLE"] = "1"
    if kind == "cuda" and index:
        settings["CUDA_VISIBLE_DEVICES"] = index
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    return waiting | dict(os.environ) | settings


def _available_memory() -> int:
    """Bytes that are free, or nearly, on Linux; elsewhere a guess."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return _CPU_CACHE
