"""What a run shows while it goes on: bars on a terminal, plain lines, or JSON lines."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from evalsuite import lines
from evalsuite.record import Record, RunManifest, TaskPart
from evalsuite.report.tables import print_results
from evalsuite.report.tally import Tally
from evalsuite.report.visible import visible

DisplayName = Literal["auto", "rich", "plain", "json"]
_LINE_SECONDS = 5.0


class TaskOutlook(msgspec.Struct, frozen=True):
    """One line of the plan.

    Attributes:
        waiting: samples without a record.
        cached: of those, how many an earlier run answered.
        prompt_tokens: mean tokens of the prompts that are waiting; 0 where unknown.
    """

    part: TaskPart
    waiting: int
    cached: int
    prompt_tokens: int


class Outlook(msgspec.Struct, frozen=True):
    """The plan of one run, as it is shown before anything is computed."""

    run_id: str
    checkpoint: str
    chat_template: str
    engine: str
    tasks: list[TaskOutlook]
    to_ask: int
    prompt_tokens: int
    notes: list[str]


class Display(Protocol):
    """What a run shows while it goes on."""

    def status(self, text: str) -> None: ...
    def plan(self, outlook: Outlook) -> None: ...
    def prompt(self, task: str, sample: str, text: str) -> None: ...
    def record(self, record: Record) -> None: ...
    def end(self) -> None: ...
    def results(self, manifest: RunManifest, path: Path) -> None: ...


def open_display(name: DisplayName) -> Display:
    """``auto`` is rich on a terminal and plain lines elsewhere."""
    if name == "json":
        return JsonDisplay()
    if name == "rich" or (name == "auto" and sys.stderr.isatty()):
        return RichDisplay()
    return PlainDisplay()


class PlainDisplay:
    """One line every few seconds, for logs and CI."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self._last = time.monotonic()

    def status(self, text: str) -> None:
        _say(text)

    def plan(self, outlook: Outlook) -> None:
        self._last = time.monotonic()
        self._tallies = _tallies(outlook)
        _print_plan(outlook)

    def record(self, record: Record) -> None:
        tally = self._tallies[record.task]
        tally.add(record)
        now = time.monotonic()
        if tally.count == tally.total or now - self._last > _LINE_SECONDS:
            self._last = now
            _say(self._line(tally))

    def _line(self, tally: Tally) -> str:
        parts = [f"{tally.part.name} {tally.count}/{tally.total}"]
        rate = tally.rate()
        if not math.isnan(rate):
            parts.append(f"{rate:.1f}/s  ETA {_clock((tally.total - tally.count) / rate)}")
        if score := tally.score():
            parts.append(f"{tally.part.main_metric} {score}")
        if tally.errors:
            parts.append(f"{tally.errors} errors")
        if tally.truncated:
            parts.append(f"{tally.truncated} truncated")
        return "  ".join(parts)

    def prompt(self, task: str, sample: str, text: str) -> None:
        _print_prompt(task, sample, text)

    def end(self) -> None:
        """Nothing to take down."""

    def results(self, manifest: RunManifest, path: Path) -> None:
        print_results(manifest, path)


class RichDisplay:
    """A bar a task."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._tallies: dict[str, Tally] = {}
        self._progress: Any = None
        self._bars: dict[str, Any] = {}

    def status(self, text: str) -> None:
        self._console.print(visible(text), style="dim", markup=False, emoji=False)

    def plan(self, outlook: Outlook) -> None:
        from rich import progress

        _print_plan(outlook)
        self._tallies = _tallies(outlook)
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}", style="dim", markup=False),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[score]}", style="bold", markup=False),
            progress.TextColumn("{task.fields[trouble]}", style="red", markup=False),
            console=self._console,
        )
        for name, tally in self._tallies.items():
            self._bars[name] = self._progress.add_task(
                visible(name), total=tally.total, score="", trouble="", rate="", start=False
            )
        self._progress.start()

    def record(self, record: Record) -> None:
        tally = self._tallies[record.task]
        tally.add(record)
        bar = self._bars[record.task]
        if tally.count == 1:
            self._progress.start_task(bar)
        trouble = [f"{tally.errors} errors"] if tally.errors else []
        trouble += [f"{tally.truncated} truncated"] if tally.truncated else []
        rate = tally.rate()
        self._progress.update(
            bar,
            completed=tally.count,
            rate="" if math.isnan(rate) else f"{rate:.1f}/s",
            score=tally.score(),
            trouble=", ".join(trouble),
        )

    def prompt(self, task: str, sample: str, text: str) -> None:
        _print_prompt(task, sample, text)

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def results(self, manifest: RunManifest, path: Path) -> None:
        print_results(manifest, path)


class JsonDisplay:
    """One JSON object a line on standard output: plan, progress, results."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self._last = 0.0

    def status(self, text: str) -> None:
        self._emit("status", text=text)

    def plan(self, outlook: Outlook) -> None:
        self._tallies = _tallies(outlook)
        self._emit("plan", **msgspec.to_builtins(outlook))

    def record(self, record: Record) -> None:
        tally = self._tallies[record.task]
        tally.add(record)
        now = time.monotonic()
        if tally.count == tally.total or now - self._last > 1.0:
            self._last = now
            self._emit(
                "progress",
                task=record.task,
                done=tally.count,
                total=tally.total,
                score=tally.score(),
                errors=tally.errors,
                truncated=tally.truncated,
            )

    def prompt(self, task: str, sample: str, text: str) -> None:
        self._emit("prompt", task=task, sample=sample, text=text)

    def end(self) -> None:
        """Nothing to take down."""

    def results(self, manifest: RunManifest, path: Path) -> None:
        self._emit(
            "results",
            run=str(path),
            status=manifest.status,
            results=msgspec.to_builtins(manifest.results),
            warnings=list(manifest.warnings),
            seconds=manifest.seconds,
            cost=msgspec.to_builtins(manifest.cost),
        )

    def _emit(self, event: str, **values: Any) -> None:
        finite = lines.null_for_nan({"event": event, **values})
        print(json.dumps(finite, ensure_ascii=True, allow_nan=False), flush=True)


def _tallies(outlook: Outlook) -> dict[str, Tally]:
    return {t.part.name: Tally(t.part, t.waiting) for t in outlook.tasks if t.waiting}


def _print_plan(outlook: Outlook) -> None:
    _say(
        f"{outlook.checkpoint}  ·  engine {outlook.engine}  ·  template {outlook.chat_template}"
        f"  ·  run {outlook.run_id}"
    )
    for task in outlook.tasks:
        part = task.part
        of_total = f" of {part.total}" if part.samples != part.total else ""
        tokens = f", ~{task.prompt_tokens} tokens a prompt" if task.prompt_tokens else ""
        known = part.samples - task.waiting
        _say(
            f"  {part.name:<20} {part.variant}, {part.num_fewshot}-shot, {part.samples}{of_total}"
            f" samples ({known} done, {task.cached} cached{tokens}), data {part.data.path}"
        )
    _say(f"  {outlook.to_ask} requests to compute, {outlook.prompt_tokens} prompt tokens")
    for note in outlook.notes:
        _say(f"  note: {note}")


def _print_prompt(task: str, sample: str, text: str) -> None:
    print(visible(f"\n=== {task}, sample {sample} ===\n{text}"))


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
