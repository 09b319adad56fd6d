"""Bench records made by hand, with planted speeds and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from evalsuite.measurements import Bench, Configuration, Hardware, Workload, quantity

HARDWARE = Hardware(cpu="Test CPU", cores=2, threads=2, used=1, memory_gib=8, features=("avx2",))
MIXED = Workload(name="mixed", requests=4, prompt_tokens=128, answer_tokens=16)


def make_configuration(
    label: str,
    *,
    speed: float = 1000.0,
    memory: float = 500e6,
    noise: float = 0.01,
    rounds: int = 8,
    seed: int = 0,
    fingerprint: str = "",
    dtype: str = "float32",
    **more: Any,
) -> Configuration:
    """Log-normal noise round ``speed`` tokens a second, and memory that hardly varies."""
    rng = np.random.default_rng(seed)
    speeds = (speed * np.exp(rng.normal(0, noise, rounds))).tolist()
    sizes = (memory * np.exp(rng.normal(0, 0.002, rounds))).tolist()
    quantities = (
        quantity(
            "mixed", "tokens_per_second", "tokens/s", [[x] for x in speeds],
            higher_is_better=True, role="speed",
        ),
        quantity("mixed", "seconds", "s", [[500 / x] for x in speeds]),
        quantity("", "peak", "B", [[x] for x in sizes], role="memory"),
        quantity("", "weights", "B", [[memory / 4]] * rounds),
    )  # fmt: skip
    fields: dict[str, Any] = {
        "label": label,
        "model": label,
        "fingerprint": fingerprint,
        "engine": {"name": "transformers", "dtype": dtype},
        "quantities": quantities,
    }
    return Configuration(**(fields | more))


def make_bench(name: str, configurations: Sequence[Configuration], **changes: Any) -> Bench:
    """A record of one workload."""
    fields: dict[str, Any] = {
        "bench_id": f"bench-{name}",
        "created": "2026-03-01T08:00:00+00:00",
        "finished": "2026-03-01T08:10:00+00:00",
        "evalsuite": "0.1.0",
        "command": ("evalsuite", "bench", "--model", name),
        "hardware": HARDWARE,
        "environment": {"python": "3.11", "torch": "2.13"},
        "workloads": (MIXED,),
        "rounds": 8,
        "repeats": 1,
        "seed": 0,
        "configurations": tuple(configurations),
    }
    return Bench(**(fields | changes))


def on_other(hardware: Hardware = HARDWARE, **changes: Any) -> Hardware:
    """The same machine but for something."""
    return msgspec.structs.replace(hardware, **changes)
