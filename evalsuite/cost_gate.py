"""Is the candidate not slower, and no larger, by more than a margin? Pass, regression, or unknown.

The same rule as for scores (:mod:`evalsuite.gate`), on a ratio: *pass* when its whole interval lies
within the margin, *regression* when the ratio reaches the margin and its interval excludes 1,
*inconclusive* otherwise. Only speeds of the same hardware are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from evalsuite.errors import BadOption, RunsIncomparable
from evalsuite.gate import EXIT_CODES, Margin, Outcome, parse_margin
from evalsuite.measurements import Bench, Configuration, Quantity, Role
from evalsuite.stats.medians import LEAST, Spread, ratio

_ROUNDING = 1e-12

Side = tuple[Bench, Configuration]


class CostVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one quantity.

    Attributes:
        factor: how many times slower or larger the candidate is; below 1 it is the better one.
            Likewise its limits.
        margin: the share that may be lost.
        reason: the verdict in one line.
    """

    workload: str
    quantity: str
    role: Role
    outcome: Outcome
    factor: float
    low: float
    high: float
    margin: float
    reason: str


class CostVerdicts(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a candidate: the worst of its quantities'."""

    outcome: Outcome
    quantities: tuple[CostVerdict, ...]
    reason: str
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """As of :class:`evalsuite.gate.Verdict`."""
        return EXIT_CODES[self.outcome]


def parse_growth(text: str, option: str) -> float:
    """``5%`` → 0.05.

    Raises:
        BadOption: anything else.
    """
    try:
        margin = parse_margin(text)
    except BadOption:
        margin = Margin(0.0)
    if not margin.relative:
        raise BadOption(f"cannot read {text!r}", where=option, hint="write a share, as 5%")
    return margin.value


def gate_cost(
    baseline: Side,
    candidate: Side,
    *,
    max_slowdown: float | None = None,
    max_memory_growth: float | None = None,
) -> CostVerdicts:
    """Judge speed, memory or both.

    Args:
        max_slowdown: share of time that may be lost on every workload; None leaves speed alone.
        max_memory_growth: share by which the peak of memory may grow; None leaves memory alone.

    Raises:
        RunsIncomparable: other hardware, or no workload of the same lengths in both.
        BadOption: no margin at all.
    """
    if max_slowdown is None and max_memory_growth is None:
        raise BadOption("nothing to judge", hint="give --max-slowdown or --max-memory-growth")
    _check(baseline[0], candidate[0])
    paired = baseline[0].bench_id == candidate[0].bench_id
    shared = _shared(baseline[0], candidate[0])
    margins: dict[Role, float | None] = {"speed": max_slowdown, "memory": max_memory_growth}
    verdicts = []
    for role, margin in margins.items():
        if margin is None:
            continue
        pairs = _pairs(baseline[1], candidate[1], role, shared)
        if not pairs:
            raise RunsIncomparable(
                f"no {role} that both records measured on the same workload",
                where=f"{baseline[0].bench_id}, {candidate[0].bench_id}",
                hint="bench both with the same lengths or tasks",
            )
        verdicts += [_judge(one, other, margin, paired=paired) for one, other in pairs]
    outcome, reason = _overall(baseline[1], candidate[1], verdicts)
    notes = _notes(baseline[0], candidate[0], paired=paired)
    return CostVerdicts(outcome=outcome, quantities=tuple(verdicts), reason=reason, notes=notes)


def _check(baseline: Bench, candidate: Bench) -> None:
    one, other = baseline.hardware, candidate.hardware
    for name in one.__struct_fields__:
        if getattr(one, name) != getattr(other, name):
            raise RunsIncomparable(
                f"not the same hardware: {name} {getattr(one, name)} and {getattr(other, name)}",
                where=f"{baseline.bench_id}, {candidate.bench_id}",
                hint="measure both on one machine, best in one `evalsuite bench` command",
            )


def _shared(baseline: Bench, candidate: Bench) -> set[str]:
    """Names of the workloads that are the same in both."""
    known = {workload.name: workload for workload in candidate.workloads}
    return {w.name for w in baseline.workloads if known.get(w.name) == w}


def _pairs(
    baseline: Configuration, candidate: Configuration, role: Role, shared: set[str]
) -> list[tuple[Quantity, Quantity]]:
    return [
        (one, other)
        for one in baseline.quantities
        if one.role == role and (not one.workload or one.workload in shared)
        if (other := candidate.find(one.workload, one.name)) is not None
    ]


def _judge(one: Quantity, other: Quantity, margin: float, *, paired: bool) -> CostVerdict:
    found = ratio(one.rounds, other.rounds, paired=paired)
    if one.higher_is_better:  # times slower = baseline's rate ÷ candidate's
        found = Spread(1 / found.value, 1 / found.high, 1 / found.low)
    word = "slower" if one.role == "speed" else "larger"
    span = f"{_change(found.value, one.role)} [{_percent(found.low)}, {_percent(found.high)}]"
    outcome: Outcome
    if math.isnan(found.low):
        outcome = "inconclusive"
        reason = f"{_change(found.value, one.role)}: fewer than {LEAST} rounds give no interval"
    elif found.high <= 1 + margin + _ROUNDING:
        outcome, reason = "pass", f"{span}: more than {margin:.1%} {word} is ruled out"
    elif found.value >= 1 + margin - _ROUNDING and found.low > 1:
        outcome, reason = "regression", f"{span}: {margin:.1%} {word} or more"
    else:
        outcome = "inconclusive"
        reason = f"{span}: more than {margin:.1%} {word} cannot be ruled out; give more --rounds"
    return CostVerdict(
        workload=one.workload,
        quantity=one.name,
        role=one.role,
        outcome=outcome,
        factor=found.value,
        low=found.low,
        high=found.high,
        margin=margin,
        reason=reason,
    )


def _change(factor: float, role: Role) -> str:
    """``3.1% slower`` or ``2.0% faster``."""
    if not math.isfinite(factor):
        return "not comparable"
    words = ("slower", "faster") if role == "speed" else ("larger", "smaller")
    amount = factor - 1 if factor >= 1 else 1 / factor - 1 if role == "speed" else 1 - factor
    return f"{amount:.1%} {words[factor < 1]}"


def _percent(factor: float) -> str:
    return f"{100 * (factor - 1):+.1f}%"


def _overall(
    baseline: Configuration, candidate: Configuration, verdicts: Sequence[CostVerdict]
) -> tuple[Outcome, str]:
    for name, side in (("baseline", baseline), ("candidate", candidate)):
        if side.failure:
            return "failed", f"the {name} {side.label} failed: {side.failure}"
    for outcome in ("regression", "inconclusive"):
        found = [_named(verdict) for verdict in verdicts if verdict.outcome == outcome]
        if found:
            return outcome, f"{outcome} on {', '.join(found)}"
    return "pass", f"nothing beyond the margin in {len(verdicts)} quantities"


def _named(verdict: CostVerdict) -> str:
    return f"{verdict.workload} {verdict.quantity}".strip()


def _notes(baseline: Bench, candidate: Bench, *, paired: bool) -> tuple[str, ...]:
    """What may explain a difference that is not the candidate's own."""
    notes = [f"{b.bench_id}: {w}" for b in (baseline, candidate) for w in b.warnings]
    if paired:
        return tuple(dict.fromkeys(notes))
    notes.append("measured at different times; one `evalsuite bench` command would take turns")
    for name, version in baseline.environment.items():
        if candidate.environment.get(name) != version:
            notes.append(f"{name} {version} and {candidate.environment.get(name, 'none')}")
    return tuple(notes)
