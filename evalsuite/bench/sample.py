"""What one worker measured in one round; JSON between the two processes."""

from __future__ import annotations

from typing import Any

import msgspec

from evalsuite.bench.ceiling import Ceiling
from evalsuite.bench.host import Span
from evalsuite.bench.workload import Lengths, Tally
from evalsuite.contestant import Contestant, EngineOptions, find_contestants
from evalsuite.engines.base import Footprint, Work
from evalsuite.measurements import Hardware


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration, as a command line gives it."""

    model: str
    engine: str = "auto"
    dtype: str = "auto"
    device: str = "auto"
    batch_tokens: int | None = None
    trust_remote_code: bool = False
    base: str | None = None
    engine_options: dict[str, str] = {}

    def contestant(self) -> Contestant:
        """As ``evalsuite run`` finds it: checked and fingerprinted."""
        options = EngineOptions(
            engine=self.engine,
            dtype=self.dtype,
            device=self.device,
            batch_tokens=self.batch_tokens,
            trust_remote_code=self.trust_remote_code,
            base=self.base,
            engine_options=self.engine_options,
        )
        [contestant] = find_contestants([self.model], options)
        return contestant


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to do.

    Attributes:
        spawned: ``time.time()`` when the process was started.
        tasks: measured instead of the synthetic workloads, if there are any.
        data: task → folder or file of its real data; the others run on their sample sets.
    """

    setup: Setup
    lengths: Lengths
    tasks: tuple[str, ...] = ()
    data: dict[str, str] = {}
    limit: int | None = None
    repeats: int = 1
    seed: int = 0
    round: int = 0
    spawned: float = 0.0


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """One pass over a workload; ``work`` is what the engine computed meanwhile."""

    span: Span
    tally: Tally
    work: Work
    joules: float | None = None


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """One request alone, in seconds.

    Attributes:
        ttft: until the first token.
        tpot: mean time of each token after it.
        steps: time of each of them, where the engine tells.
    """

    ttft: float
    tpot: float
    steps: tuple[float, ...] = ()


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """In bytes.

    Attributes:
        base: what the process held before the model was loaded, Python and libraries.
        loaded: after loading and one short request.
        peak: the most while the workloads ran.
        device_loaded, device_peak, device_reserved: likewise of a GPU, by its allocator.
        nvml: what the driver says that the processes hold, after the workloads.
    """

    base: int
    loaded: int
    peak: int
    device_loaded: int | None = None
    device_peak: int | None = None
    device_reserved: int | None = None
    nvml: int | None = None


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one worker measured.

    Attributes:
        startup: from the start of the process to the first answer.
        load: opening the engine, until its weights are there.
        timings: workload → its repeats.
    """

    startup: float
    load: float
    hardware: Hardware
    engine: dict[str, Any]
    parameters: int | None
    footprint: Footprint
    memory: Memory
    ceiling: Ceiling | None
    timings: dict[str, tuple[Timing, ...]]
    latencies: tuple[Latency, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says at its end: a round, or the error that kept it from one."""

    round: Round | None = None
    error: str = ""
    exit_code: int = 0
