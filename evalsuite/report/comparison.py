"""Comparisons and verdicts on a terminal."""

from __future__ import annotations

from evalsuite.compare import Comparison, TaskComparison
from evalsuite.cost_gate import CostVerdicts
from evalsuite.errors import UnknownName
from evalsuite.gate import Verdict
from evalsuite.metrics.metric import Metric
from evalsuite.report.tables import print_table, shown
from evalsuite.report.visible import visible
from evalsuite.stats.paired import Difference

_NAMED = 5


def print_comparison(comparison: Comparison, *, by: str = "") -> None:
    """Differences of every metric, then warnings and the samples that changed most.

    Raises:
        UnknownName: no compared task has the tag ``by``.
    """
    from rich.table import Table

    names = (comparison.baseline.checkpoint.name, comparison.candidate.checkpoint.name)
    baseline, candidate = map(visible, names)
    table = Table(title=f"{candidate} against {baseline}", title_justify="left")
    for column in ("task", "metric", by) if by else ("task", "metric"):
        table.add_column(column)
    for column in (baseline, candidate, "difference [95% interval]", "p", "n", "better", "worse"):
        table.add_column(column, justify="right")
    tags = {tag for task in comparison.tasks for tag in task.by_tag}
    if by and by not in tags:
        raise UnknownName("tag", by, tags, where="--by")
    for task in comparison.tasks:
        for place, metric in enumerate(_main_first(task)):
            found = task.differences[metric.name]
            head = [visible(task.task) if place == 0 else "", metric.name, *([""] if by else [])]
            table.add_row(*head, *_cells(found, metric), style="bold" if place == 0 else "dim")
        for group, found in task.by_tag.get(by, {}).items():
            table.add_row("", "", visible(group), *_cells(found, task.metric))
        table.add_section()
    print_table(table)
    for warning in _warnings(comparison):
        print(f"warning: {visible(warning)}")
    for task in comparison.tasks:
        if task.regressed:
            some = ", ".join(task.regressed[:_NAMED])
            more = (
                f" and {len(task.regressed) - _NAMED} more" if len(task.regressed) > _NAMED else ""
            )
            print(f"{visible(task.task)}: worse on {visible(some)}{more}")


def print_verdict(verdict: Verdict, comparison: Comparison) -> None:
    """One line a task, then the verdict."""
    for warning in _warnings(comparison):
        print(f"warning: {visible(warning)}")
    for task in verdict.tasks:
        print(f"{task.outcome.upper():<13}{task.task} {task.metric}: {visible(task.reason)}")
    print(f"gate: {verdict.outcome}: {visible(verdict.reason)}")


def print_cost_verdict(verdict: CostVerdicts) -> None:
    """One line a quantity, then the verdict."""
    for note in verdict.notes:
        print(f"note: {visible(note)}")
    for found in verdict.quantities:
        name = f"{found.workload} {found.quantity}".strip()
        print(f"{found.outcome.upper():<13}{visible(name)}: {visible(found.reason)}")
    print(f"gate: {verdict.outcome}: {visible(verdict.reason)}")


def _cells(found: Difference, metric: Metric) -> list[str]:
    low, high = (_signed(x, metric) for x in (found.low, found.high))
    p = "–" if found.p_value != found.p_value else f"{found.p_value:.2g}"
    return [
        shown(found.a, metric.unit),
        shown(found.b, metric.unit),
        f"{_signed(found.difference, metric)} [{low}, {high}]",
        p,
        str(found.n),
        str(found.better),
        str(found.worse),
    ]


def _signed(value: float, metric: Metric) -> str:
    text = shown(value, metric.unit).removesuffix("%")
    return text if text.startswith(("-", "–")) else f"+{text}"


def _main_first(task: TaskComparison) -> list[Metric]:
    return sorted(task.metrics, key=lambda metric: metric.name != task.main_metric)


def _warnings(comparison: Comparison) -> list[str]:
    own = [f"{task.task}: {warning}" for task in comparison.tasks for warning in task.warnings]
    return [*comparison.warnings, *own]
