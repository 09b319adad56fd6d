"""Tables of finished runs on a terminal."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalsuite.errors import UnknownName
from evalsuite.metrics.metric import Metric, Unit
from evalsuite.record import Interval, RunManifest, TaskPart
from evalsuite.report.cost import cost_line
from evalsuite.report.visible import visible


def shown(value: float, unit: Unit) -> str:
    """A score as people read it: fractions as percentages, points as they are; ``–`` for nan."""
    if math.isnan(value):
        return "–"
    return f"{100 * value:.1f}%" if unit == "percent" else f"{value:.2f}"


def shown_interval(interval: Interval, unit: Unit) -> str:
    """``71.2% [68.0, 74.1]``."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return shown(interval.value, unit)
    low, high = (shown(x, unit).removesuffix("%") for x in (interval.low, interval.high))
    return f"{shown(interval.value, unit)} [{low}, {high}]"


def print_results(manifest: RunManifest, path: Path) -> None:
    """The table of a run: every metric with its interval, then warnings and paths."""
    from rich.table import Table

    table = Table(
        title=visible(f"{manifest.checkpoint.name}  ·  {manifest.run_id}"), title_justify="left"
    )
    for column in ("task", "variant", "shots", "metric"):
        table.add_column(column)
    for column in ("score [95% interval]", "n", "errors", "truncated", "answered"):
        table.add_column(column, justify="right")
    for part in manifest.tasks:
        result = manifest.results.get(part.name)
        if result is None:
            continue
        for place, metric in enumerate(_main_first(part)):
            interval = result.metrics[metric.name]
            head = (
                [visible(part.name), part.variant, str(part.num_fewshot)]
                if place == 0
                else ["", "", ""]
            )
            tail = [str(interval.n), str(sum(result.errors.values())), str(result.truncated)]
            tail.append(shown(result.extracted, "percent"))
            bold = "bold" if place == 0 else "dim"
            table.add_row(
                *head,
                metric.name,
                shown_interval(interval, metric.unit),
                *(tail if place == 0 else [""] * 4),
                style=bold,
                end_section=place == len(part.metrics) - 1,
            )
    print_table(table)
    if manifest.status != "complete":
        print(
            f"not finished ({manifest.status}); resume with: {visible(shlex.join(manifest.command))}"
        )
    for warning in manifest.warnings:
        print(f"warning: {visible(warning)}")
    if line := cost_line(manifest):
        print(visible(line))
    print(f"run: {visible(str(path))}")


def print_breakdown(manifest: RunManifest, tag: str) -> None:
    """The main metric of every task by the values of one tag; raises :class:`UnknownName`."""
    from rich.table import Table

    table = Table(title=f"by {visible(tag)}", title_justify="left")
    for column, justify in (("task", "left"), (tag, "left"), ("score", "right"), ("n", "right")):
        table.add_column(visible(column), justify=justify)  # type: ignore[arg-type]
    known: set[str] = set()
    for part in manifest.tasks:
        result = manifest.results.get(part.name)
        if result is None:
            continue
        unit = next(m.unit for m in part.metrics if m.name == part.main_metric)
        groups = result.by_tag.get(part.main_metric, {})
        known |= groups.keys()
        for group, interval in sorted(groups.get(tag, {}).items()):
            score = shown_interval(interval, unit)
            table.add_row(visible(part.name), visible(group), score, str(interval.n))
    if tag not in known:
        raise UnknownName("tag", tag, known, where="--by")
    print_table(table)


def print_table(table: Any) -> None:
    """Print a rich table on standard output, at least wide enough for its columns in a pipe."""
    from rich.console import Console

    # Cells hold names from data and model cards; they are text, never rich's markup.
    literal: Any = {"highlight": False, "markup": False, "emoji": False}
    console = Console(**literal)
    if not console.is_terminal:
        console = Console(**literal, width=160)
    console.print(table)


def _main_first(part: TaskPart) -> Sequence[Metric]:
    return sorted(part.metrics, key=lambda metric: metric.name != part.main_metric)
