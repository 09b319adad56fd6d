"""Is the candidate not worse than the baseline by more than a margin? Pass, regression, or unknown.

The test is non-inferiority on each task's main metric (Piaggio et al. 2012, CONSORT extension):
*pass* when the whole interval of the difference lies above −margin, *regression* when the loss
reaches the margin and the interval lies below zero, *inconclusive* otherwise. Equal answers to a
few questions are no proof of equal skill, so they too are judged by the interval, except where both
runs are of the same checkpoint with the same chat template: then they are equal by construction.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import msgspec

from evalsuite.compare import Comparison, TaskComparison
from evalsuite.errors import BadOption, UnknownName
from evalsuite.metrics.metric import Metric
from evalsuite.stats.paired import Difference

Outcome = Literal["pass", "regression", "inconclusive", "incomplete", "failed"]

Settled = Literal["pass", "regression", "inconclusive"]
"""What an interval says of a margin."""

EXIT_CODES: dict[Outcome, int] = {
    "pass": 0,
    "regression": 1,
    "inconclusive": 3,
    "incomplete": 3,
    "failed": 4,
}
"""Usage errors exit with 2, incomparable runs with 3, as their exceptions say."""

_POWER = 0.8
_ROUNDING = 1e-12
"""A loss of exactly the margin is a loss of the margin, whatever its last binary digit."""
_MARGIN = re.compile(r"(\d+(?:\.\d+)?)\s*(pt|%)", re.ASCII)


class Margin(msgspec.Struct, frozen=True):
    """How much may be lost.

    Attributes:
        value: points on the shown scale, or a share of the baseline's score.
    """

    value: float
    relative: bool = False

    def of(self, metric: Metric, baseline: float) -> float:
        """The margin in the metric's own unit, not negative."""
        if self.relative:
            return self.value * abs(baseline)
        return self.value / metric.scale


class TaskVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one task; numbers are in the metric's own unit.

    Attributes:
        gain: candidate − baseline, turned so that positive is better; likewise its limits.
        reason: the verdict in one line.
        needed: roughly how many samples would settle it, when inconclusive; None when it is settled
            or no number would do.
    """

    task: str
    metric: str
    outcome: Outcome
    n: int
    coverage: float
    baseline: float
    candidate: float
    gain: float
    low: float
    high: float
    p_value: float
    margin: float
    reason: str
    needed: int | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a candidate: the worst of its tasks'."""

    outcome: Outcome
    tasks: tuple[TaskVerdict, ...]
    reason: str

    @property
    def exit_code(self) -> int:
        """0 pass, 1 regression, 3 inconclusive or incomplete, 4 a run that failed."""
        return EXIT_CODES[self.outcome]


def parse_margin(text: str) -> Margin:
    """``1pt`` and ``0.5pt`` are points as shown in tables; ``2%`` is relative to the baseline.

    Raises:
        BadOption: anything else.
    """
    match = _MARGIN.fullmatch(text.strip())
    if match is None:
        raise BadOption(
            f"cannot read the margin {text!r}",
            hint="write points as 1pt or 0.5pt, or a share of the baseline's score as 2%",
        )
    number = float(match[1])
    return Margin(number / 100, relative=True) if match[2] == "%" else Margin(number)


def gate(
    comparison: Comparison,
    max_drop: Margin,
    tasks: Sequence[str] = (),
    *,
    min_coverage: float = 1.0,
) -> Verdict:
    """Judge a comparison.

    Args:
        max_drop: the loss that is still accepted on each task.
        tasks: only these; all compared tasks if empty.
        min_coverage: share of the expected samples that both runs must have a score for.

    Raises:
        UnknownName: a task that was not compared.
        BadOption: a coverage outside 0..1.
    """
    if not 0 <= min_coverage <= 1:
        raise BadOption(f"a coverage of {min_coverage}", hint="give a share from 0 to 1")
    known = {task.task: task for task in comparison.tasks}
    for name in tasks:
        if name not in known:
            raise UnknownName("task", name, known, where="the comparison")
    chosen = [known[name] for name in dict.fromkeys(tasks)] or list(comparison.tasks)
    same = _same_checkpoint(comparison)
    verdicts = tuple(_judge(task, max_drop, min_coverage, same=same) for task in chosen)
    outcome, reason = _overall(comparison, verdicts)
    return Verdict(outcome=outcome, tasks=verdicts, reason=reason)


def settle(gain: float, low: float, high: float, margin: float) -> Settled:
    """Whether a loss of the margin is ruled out, found, or neither; all in one unit.

    Args:
        gain: positive is better; ``low`` and ``high`` are its limits, nan where there are none.
    """
    if low >= -margin - _ROUNDING:
        return "pass"
    if gain <= -margin + _ROUNDING and high < 0:
        return "regression"
    return "inconclusive"


def _same_checkpoint(comparison: Comparison) -> bool:
    one, two = comparison.baseline.checkpoint, comparison.candidate.checkpoint
    return (one.fingerprint, one.chat_template) == (two.fingerprint, two.chat_template)


def _overall(comparison: Comparison, verdicts: Sequence[TaskVerdict]) -> tuple[Outcome, str]:
    sides = {"baseline": comparison.baseline, "candidate": comparison.candidate}
    for name, side in sides.items():
        if side.status == "failed":
            return "failed", f"the {name} {side.run_id} failed"
    for outcome in ("regression", "incomplete", "inconclusive"):
        found = [verdict.task for verdict in verdicts if verdict.outcome == outcome]
        if found:
            return outcome, f"{outcome} on {', '.join(found)}"
    for name, side in sides.items():
        if side.status != "complete":
            return "incomplete", f"the {name} {side.run_id} is {side.status}"
    count = f"all {len(verdicts)} tasks" if len(verdicts) != 1 else verdicts[0].task
    return "pass", f"no loss beyond the margin on {count}"


def _judge(
    task: TaskComparison, max_drop: Margin, min_coverage: float, *, same: bool
) -> TaskVerdict:
    found = task.main
    sign = 1.0 if task.metric.higher_is_better else -1.0
    gain = sign * found.difference
    low, high = (found.low, found.high) if sign > 0 else (-found.high, -found.low)
    margin = max_drop.of(task.metric, found.a)
    needed = None
    outcome: Outcome
    shown = _Shown(task.metric)
    span = f"{shown(gain)} [{shown(low)}, {shown(high)}]"
    if task.coverage < min_coverage:
        outcome = "incomplete"
        reason = f"only {found.samples:,} of {task.expected:,} samples have a score in both runs"
    elif same and found.better == found.worse == 0 and gain == 0:
        outcome = "pass"
        reason = f"the same checkpoint, and no score of {found.n:,} samples changed"
    elif (outcome := settle(gain, low, high, margin)) == "pass":
        reason = f"{span}: a loss beyond {shown.size(margin)} is ruled out"
    elif outcome == "regression":
        reason = f"{span}: a loss of {shown.size(margin)} or more"
    else:
        needed = samples_needed(found.samples, high - low, margin, found.level)
        advice = f"; about {needed:,} samples would settle it" if needed else ""
        reason = f"{span}: {_why(found, low, high)}{advice}"
    return TaskVerdict(
        task=task.task,
        metric=found.metric,
        outcome=outcome,
        n=found.n,
        coverage=task.coverage,
        baseline=found.a,
        candidate=found.b,
        gain=gain,
        low=low,
        high=high,
        p_value=found.p_value,
        margin=margin,
        reason=reason,
        needed=needed,
    )


def _why(found: Difference, low: float, high: float) -> str:
    if math.isnan(low) and found.better == found.worse == 0:
        return f"no score of {found.n:,} samples changed, which gives no interval"
    if math.isnan(low):
        return "too few samples for an interval"
    if high < 0:
        return "a loss, perhaps beyond the margin and perhaps not"
    return "a loss beyond the margin cannot be ruled out"


def samples_needed(n: int, width: float, margin: float, level: float) -> int | None:
    """How many samples show non-inferiority of an equal candidate with 80% power.

    The interval's width shrinks with √n, so n′ = n · ((z + z_power) · error / margin)², with the
    error of the difference taken from the width. At least twice n: what is there did not do.
    """
    if margin <= 0 or not width > 0:
        return None
    normal = NormalDist()
    z = normal.inv_cdf((1 + level) / 2)
    error = width / (2 * z)
    return max(2 * n, math.ceil(n * ((z + normal.inv_cdf(_POWER)) * error / margin) ** 2))


class _Shown:
    """Numbers in points as tables show them."""

    def __init__(self, metric: Metric) -> None:
        self.scale = metric.scale

    def __call__(self, value: float) -> str:
        return "?" if math.isnan(value) else f"{value * self.scale:+.2f}"

    def size(self, value: float) -> str:
        return f"{value * self.scale:.2f} points"
