"""The machine: what a speed depends on beside the program."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from pathlib import Path

from evalsuite.measurements import Hardware

_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
_ARM_FEATURES = ("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2")
_PACKAGES: tuple[str, ...] = (
    "torch",
    "transformers",
    "tokenizers",
    "torchao",
    "bitsandbytes",
    "vllm",
    "openai",
)
_PACKAGES += ("llama-cpp-python", "numpy", "psutil")


def hardware(used: int, gpus: tuple[str, ...] = (), server: str = "") -> Hardware:
    """This machine, for an engine that computes with ``used`` threads.

    Args:
        gpus: the accelerators that the engine computes with.
        server: address of the server that computes instead.
    """
    import psutil

    facts = _cpu_facts()
    threads = psutil.cpu_count() or 1
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return Hardware(
        cpu=facts.get("model name", "") or platform.processor() or platform.machine(),
        cores=psutil.cpu_count(logical=False) or threads,
        threads=threads,
        used=used,
        memory_gib=round(psutil.virtual_memory().total / 2**30),
        features=tuple(name for name in (*_FEATURES, *_ARM_FEATURES) if name in flags),
        gpus=gpus,
        server=server,
    )


def software() -> dict[str, str]:
    """Versions of what computes."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _cpu_facts() -> dict[str, str]:
    """The first processor of ``/proc/cpuinfo``; empty where there is none."""
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        for line in text.partition("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            facts[name.strip()] = value.strip()
    return facts
