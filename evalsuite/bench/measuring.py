"""One configuration, once: open the engine, warm it up, time workloads, read memory."""

from __future__ import annotations

import time
from typing import Any

from evalsuite import memory
from evalsuite.bench import accelerator
from evalsuite.bench.ceiling import Ceiling, ceiling
from evalsuite.bench.energy import EnergyCounter
from evalsuite.bench.hardware import hardware
from evalsuite.bench.host import Clock
from evalsuite.bench.sample import Job, Latency, Memory, Round, Timing
from evalsuite.bench.workload import (
    answered,
    prompts,
    synthetic,
    tally,
    task_requests,
)
from evalsuite.engines.base import Engine, Prepared, Work
from evalsuite.measurements import Workload

_ALONE = 3
"""Requests whose latency is taken, one after the other."""

_WARM_UP = 32
"""Prompt tokens before anything is timed."""

_COMPUTED = {"int8": "float32", "int4": "bfloat16"}
"""Quantised weights and the dtype that they are multiplied in."""


def measure(job: Job) -> Round:
    """Open the engine, warm it up, time every workload, and last of all the machine itself.

    Raises:
        EvalsuiteError: whatever keeps the engine from answering.
    """
    _import_libraries(job.setup.engine)
    contestant = job.setup.contestant()
    base = memory.resident()
    began = time.perf_counter()
    engine = contestant.open_engine()
    try:
        engine.ready()
        load = time.perf_counter() - began
        engine.ignore_ends = not job.tasks
        answered(engine, prompts(engine, _warm_up(job), job.seed))
        startup = time.time() - job.spawned
        device = str(engine.description.get("device", "cpu"))
        loaded = memory.resident()
        device_loaded = accelerator.allocated(device)
        memory.forget_peak()
        timings, latencies = _timed(engine, job, device)
        found = Memory(
            base=base,
            loaded=loaded,
            peak=memory.peak(),
            device_loaded=device_loaded,
            device_peak=engine.work.device_peak_bytes,
            device_reserved=accelerator.reserved(device),
            nvml=accelerator.driver(),
        )
        return Round(
            startup=startup,
            load=load,
            hardware=hardware(accelerator.threads(), accelerator.gpus(device)),
            engine=engine.description,
            parameters=engine.parameters,
            footprint=engine.footprint,
            memory=found,
            ceiling=_ceiling(engine, device),
            timings=timings,
            latencies=latencies,
        )
    finally:
        engine.close()


def _import_libraries(engine: str) -> None:
    """What takes seconds whatever the model, so that loading is loading."""
    if engine in ("auto", "transformers"):
        import torch  # noqa: F401
        from transformers import AutoModelForCausalLM  # noqa: F401


def _warm_up(job: Job) -> Workload:
    """Two short requests: kernels are chosen, code is compiled, weights are read into memory."""
    length = min(_WARM_UP, job.lengths.prompt_tokens)
    return Workload(name="warm-up", requests=2, prompt_tokens=length, answer_tokens=2)


def _timed(
    engine: Engine, job: Job, device: str
) -> tuple[dict[str, tuple[Timing, ...]], tuple[Latency, ...]]:
    if job.tasks:
        ready = {
            task: task_requests(engine, task, job.data.get(task, ""), job.limit, job.seed)
            for task in job.tasks
        }
        return {task: (timed(engine, ready[task], device),) for task in job.tasks}, ()
    found = {}
    for workload in synthetic(job.lengths):
        lots = [_lot(job, repeat) for repeat in range(job.repeats)]
        answered(engine, prompts(engine, workload, _lot(job, job.repeats)))
        found[workload.name] = tuple(
            timed(engine, prompts(engine, workload, lot), device) for lot in lots
        )
    return found, tuple(_latency(engine, job, number) for number in range(_ALONE))


def _lot(job: Job, repeat: int) -> int:
    """A seed of its own for each repeat, so that no engine meets a prompt twice."""
    return (job.seed * 1000 + job.round) * 1000 + repeat


def timed(engine: Engine, prepared: list[Prepared], device: str) -> Timing:
    """One pass over the requests."""
    before = engine.work
    energy = EnergyCounter(gpus=len(accelerator.gpus(device)))
    clock = Clock()
    answers = answered(engine, prepared)
    span = clock.span()
    return Timing(
        span=span,
        tally=tally(prepared, answers),
        work=_difference(engine.work, before),
        joules=energy.joules(),
    )


def _latency(engine: Engine, job: Job, number: int) -> Latency:
    """A first token alone, then a whole answer: the rest of its time belongs to the other tokens."""
    lengths = job.lengths
    one = Workload(name="latency", requests=1, prompt_tokens=lengths.prompt_tokens, answer_tokens=1)
    whole = Workload(
        name="latency",
        requests=1,
        prompt_tokens=lengths.prompt_tokens,
        answer_tokens=max(2, lengths.answer_tokens),
    )
    lot = _lot(job, job.repeats + 1) + number * 2
    ttft = _seconds(engine, prompts(engine, one, lot))
    before = engine.work.decode_steps
    seconds = _seconds(engine, prompts(engine, whole, lot + 1))
    work = engine.work
    taken = (work.decode_steps or 0) - (before or 0)
    return Latency(
        ttft=ttft,
        tpot=max(0.0, seconds - ttft) / (whole.answer_tokens - 1),
        steps=work.step_seconds[-taken:] if taken else (),
    )


def _seconds(engine: Engine, prepared: list[Prepared]) -> float:
    began = time.perf_counter()
    answered(engine, prepared)
    return time.perf_counter() - began


def _difference(now: Work, before: Work) -> Work:
    def less(one: Any, other: Any) -> Any:
        return None if one is None else one - (other or 0)

    return Work(
        prefill_tokens=less(now.prefill_tokens, before.prefill_tokens),
        decode_tokens=less(now.decode_tokens, before.decode_tokens),
        decode_steps=less(now.decode_steps, before.decode_steps),
        prefill_seconds=less(now.prefill_seconds, before.prefill_seconds),
        decode_seconds=less(now.decode_seconds, before.decode_seconds),
    )


def _ceiling(engine: Engine, device: str) -> Ceiling | None:
    """Of this process, where the model computes in it and its weights are known."""
    if engine.footprint.weight_bytes is None or engine.work.prefill_tokens is None:
        return None
    dtype = str(engine.description.get("dtype", "float32"))
    kind = "cuda" if accelerator.gpus(device) else "cpu"
    if kind == "cpu" and device != "cpu":
        return None
    return ceiling(_COMPUTED.get(dtype, dtype), kind, engine.footprint.weight_bytes)
