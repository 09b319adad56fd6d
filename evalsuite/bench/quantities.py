"""From what the workers measured to named quantities with medians and intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from evalsuite.bench.ceiling import Ceiling
from evalsuite.bench.sample import Round, Timing
from evalsuite.engines.base import Footprint
from evalsuite.measurements import Quantity, Role, quantity


def quantities(rounds: Sequence[Round]) -> tuple[Quantity, ...]:
    """All that can be said of a configuration; nothing for what could not be measured."""
    if not rounds:
        return ()
    found = [*_of_the_whole(rounds)]
    for workload in rounds[0].timings:
        found += _of_workload(workload, rounds)
    return tuple(found)


def computed_flops(timing: Timing, footprint: Footprint, parameters: int | None) -> float | None:
    """2 × weights × tokens that went through the model, padding included, attention left out."""
    work = timing.work
    if work.prefill_tokens is None or work.decode_tokens is None:
        return None
    return _flops(work.prefill_tokens + work.decode_tokens, timing, footprint, parameters)


def floor_seconds(
    timing: Timing, footprint: Footprint, parameters: int | None, most: Ceiling
) -> float | None:
    """The least time that this machine could take: every different token once, at full speed.

    And no less than reading the weights once for each token of the longest answer.
    """
    flops = _flops(timing.tally.unique_tokens, timing, footprint, parameters)
    if flops is None:
        return None
    reading = timing.tally.longest * (footprint.weight_bytes or 0) / most.bytes
    return max(flops / most.flops, reading)


def _flops(
    tokens: int, timing: Timing, footprint: Footprint, parameters: int | None
) -> float | None:
    """The body for every token, the head only where logits are needed."""
    if footprint.body_parameters is not None and footprint.head_parameters is not None:
        head = footprint.head_parameters * timing.tally.rows
        return 2.0 * (footprint.body_parameters * tokens + head)
    return None if parameters is None else 2.0 * parameters * tokens


def _of_the_whole(rounds: Sequence[Round]) -> list[Quantity]:
    """Start-up, memory, the machine's ceilings, and one request alone."""
    gpu = rounds[0].memory.device_peak is not None

    def one(
        name: str, unit: str, pick: Callable[[Round], float | None], role: Role = ""
    ) -> list[Quantity]:
        return _quantity("", name, unit, [_kept([pick(r)]) for r in rounds], role=role)

    found = [
        *one("startup", "s", lambda r: r.startup),
        *one("load", "s", lambda r: r.load),
        *one("weights", "B", lambda r: r.footprint.weight_bytes),
        *one("kv_per_token", "B", lambda r: r.footprint.kv_bytes_per_token),
        *one("activations", "B", _activations),
        *one("peak", "B", lambda r: r.memory.peak, "" if gpu else "memory"),
        *one("device_peak", "B", lambda r: r.memory.device_peak, "memory"),
        *one("device_reserved", "B", lambda r: r.memory.device_reserved),
        *one("nvml", "B", lambda r: r.memory.nvml),
        *one("matrix_ceiling", "FLOP/s", lambda r: r.ceiling.flops if r.ceiling else None),
        *one("bandwidth_ceiling", "B/s", lambda r: r.ceiling.bytes if r.ceiling else None),
    ]
    found += _quantity("alone", "ttft", "s", [[x.ttft for x in r.latencies] for r in rounds])
    found += _quantity("alone", "tpot", "s", [[x.tpot for x in r.latencies] for r in rounds])
    steps = [[step for x in r.latencies for step in x.steps] for r in rounds]
    for name, share in (("itl_p50", 50), ("itl_p99", 99)):
        values = [[float(np.percentile(s, share))] if s else [] for s in steps]
        found += _quantity("alone", name, "s", values)
    return found


def _activations(round: Round) -> float:
    """What computing took beyond the loaded model; on a GPU by its allocator."""
    found = round.memory
    if found.device_peak is not None and found.device_loaded is not None:
        return max(0, found.device_peak - found.device_loaded)
    return max(0, found.peak - found.loaded)


def _of_workload(workload: str, rounds: Sequence[Round]) -> list[Quantity]:
    def each(
        name: str,
        unit: str,
        pick: Callable[[Timing, Round], float | None],
        *,
        role: Role = "",
        better: bool = True,
    ) -> list[Quantity]:
        values = [_kept([pick(t, r) for t in r.timings[workload]]) for r in rounds]
        return _quantity(workload, name, unit, values, role=role, better=better)

    def rate(count: Callable[[Timing], int]) -> Callable[[Timing, Round], float | None]:
        return lambda t, _: count(t) / t.span.seconds if count(t) else None

    return [
        *each("tokens_per_second", "tokens/s", rate(_tokens), role="speed"),
        *each("prompt_tokens_per_second", "tokens/s", rate(lambda t: t.tally.prompt_tokens)),
        *each("answer_tokens_per_second", "tokens/s", rate(lambda t: t.tally.answer_tokens)),
        *each("requests_per_second", "1/s", rate(lambda t: t.tally.requests)),
        *each("seconds", "s", lambda t, _: t.span.seconds, better=False),
        *each("cpu_seconds", "s", lambda t, _: t.span.cpu_seconds, better=False),
        *each("computed_share", "share", _computed_share, better=False),
        *each("mfu", "share", _mfu),
        *each("bandwidth_use", "share", _bandwidth_use),
        *each("floor_share", "share", _floor_share),
        *each("joules_per_token", "J", _joules_per_token, better=False),
    ]


def _tokens(timing: Timing) -> int:
    return timing.tally.prompt_tokens + timing.tally.answer_tokens


def _computed_share(timing: Timing, _: Round) -> float | None:
    """Tokens computed by tokens asked; more than 1 is padding, less is what was shared."""
    work = timing.work
    if work.prefill_tokens is None or work.decode_tokens is None:
        return None
    answered = timing.tally.answer_tokens
    asked = timing.tally.prompt_tokens + answered - (timing.tally.requests if answered else 0)
    return (work.prefill_tokens + work.decode_tokens) / max(1, asked)


def _mfu(timing: Timing, round: Round) -> float | None:
    flops = computed_flops(timing, round.footprint, round.parameters)
    if flops is None or round.ceiling is None:
        return None
    return flops / timing.span.seconds / round.ceiling.flops


def _bandwidth_use(timing: Timing, round: Round) -> float | None:
    """Weights read once a decoding step."""
    work, weights = timing.work, round.footprint.weight_bytes
    if not work.decode_steps or not work.decode_seconds or not weights or round.ceiling is None:
        return None
    return weights * work.decode_steps / work.decode_seconds / round.ceiling.bytes


def _floor_share(timing: Timing, round: Round) -> float | None:
    if round.ceiling is None:
        return None
    least = floor_seconds(timing, round.footprint, round.parameters, round.ceiling)
    return None if least is None else least / timing.span.seconds


def _joules_per_token(timing: Timing, _: Round) -> float | None:
    return None if timing.joules is None else timing.joules / max(1, _tokens(timing))


def _kept(values: Sequence[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None]


def _quantity(
    workload: str,
    name: str,
    unit: str,
    rounds: Sequence[Sequence[float]],
    *,
    role: Role = "",
    better: bool = False,
) -> list[Quantity]:
    if not any(len(repeats) for repeats in rounds):
        return []
    return [quantity(workload, name, unit, rounds, role=role, higher_is_better=better)]
