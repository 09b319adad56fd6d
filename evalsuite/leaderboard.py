"""A leaderboard: a definition in YAML, runs, and the one HTML file made of both.

title: 中英文基座模型
language: zh
tasks:
  - task: cmmlu
  - task: mgsm/zh
    metric: accuracy
runs: ["../runs/*"]
baseline: base-7b
sort: cmmlu
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.definition import check_keys, converted, read_yaml, refuse
from evalsuite.errors import BadDefinition, DataMissing, nearest
from evalsuite.files import write_atomically
from evalsuite.measurements import find_benches
from evalsuite.report.collect import collect
from evalsuite.report.html import render
from evalsuite.report.words import LANGUAGES
from evalsuite.store import MANIFEST, Run

PAGE = "index.html"


class Entry(msgspec.Struct, frozen=True):
    """One task of a leaderboard; its main metric unless another is named."""

    task: str
    metric: str = ""


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """What a leaderboard shows.

    Attributes:
        runs: glob patterns of run folders, relative to the definition's file.
        baseline: checkpoint name or run id that the others are compared with.
        sort: task whose column the table is sorted by at first; the first one if empty.
    """

    title: str
    tasks: tuple[Entry, ...]
    language: str = "en"
    runs: tuple[str, ...] = ()
    baseline: str = ""
    sort: str = ""


def read_definition(file: Path) -> Definition:
    """Read and check a definition.

    Raises:
        DataMissing: no such file.
        BadDefinition: not YAML, or keys that are unknown, missing or of the wrong kind.
    """
    return parse_definition(read_yaml(file), str(file))


def parse_definition(raw: Any, where: str) -> Definition:
    """Check a definition that is already decoded; raises :class:`BadDefinition`."""
    check_keys(raw, Definition, where)
    entries = raw.get("tasks")
    if not isinstance(entries, list) or not entries:
        raise BadDefinition("tasks is not a list of tasks", where=where, hint="- task: cmmlu")
    for number, entry in enumerate(entries, 1):
        if isinstance(entry, dict):
            check_keys(entry, Entry, f"{where}, task {number}")
    tasks = [{"task": entry} if isinstance(entry, str) else entry for entry in entries]
    definition = converted(raw | {"tasks": tasks}, Definition, where)
    _check_names(definition, where)
    return definition


def run_folders(definition: Definition, base: Path) -> list[Path]:
    """The run folders that the definition's patterns match, sorted, each once.

    Args:
        base: the folder of the definition's file.

    Raises:
        DataMissing: a pattern matches no run.
    """
    found: set[Path] = set()
    for pattern in definition.runs:
        anchor = Path(pattern).anchor
        matches = Path(anchor or base).glob(pattern.removeprefix(anchor))
        runs = {match for match in matches if (match / MANIFEST).is_file()}
        if not runs:
            raise DataMissing(
                "no run matches the pattern",
                where=str(base / pattern),
                hint="patterns are relative to the definition and name run folders",
            )
        found |= runs
    return sorted(found)


def build_leaderboard(definition: Definition, runs: Sequence[Run], out: Path) -> Path:
    """Write ``out/index.html``, one file that needs no other, and return its path.

    Only finished runs are read. Of an unfinished one the page says that it is unfinished.

    Raises:
        BadDefinition: no run has the metric that the definition names.
        RunDamaged: a run's records cannot be read.
        CannotWrite: full disk or no permission; an older page still stands.
    """
    _check_metrics(definition, runs)
    board = collect(
        definition.title,
        definition.language,
        [(entry.task, entry.metric) for entry in definition.tasks],
        runs,
        baseline=definition.baseline,
        sort=definition.sort,
        benches=[b for folder in _parents(runs) for b in find_benches(folder)],
    )
    page = out / PAGE
    write_atomically(page, render(board))
    return page


def _parents(runs: Sequence[Run]) -> list[Path]:
    """Where bench records lie: beside the runs."""
    return sorted({run.path.parent for run in runs})


def absent_tasks(definition: Definition, runs: Sequence[Run]) -> list[str]:
    """A note for each of the definition's tasks that no run has."""
    known = list(dict.fromkeys(part.name for run in runs for part in run.manifest.tasks))
    notes = []
    for entry in definition.tasks:
        if entry.task not in known:
            near = nearest(entry.task, known)
            hint = f"; did you mean {near!r}?" if near else ""
            notes.append(f"no run has the task {entry.task!r}{hint}")
    return notes


def missing_baseline(definition: Definition, runs: Sequence[Run]) -> str:
    """A note when the definition's baseline is not among the runs, else empty."""
    names = [n for run in runs for n in (run.manifest.checkpoint.name, run.manifest.run_id)]
    if not definition.baseline or definition.baseline in names:
        return ""
    near = nearest(definition.baseline, names)
    hint = f"; did you mean {near!r}?" if near else ""
    return f"the baseline {definition.baseline!r} is not among the runs, so no differences{hint}"


def _check_names(definition: Definition, where: str) -> None:
    if definition.language not in LANGUAGES:
        refuse("language", definition.language, tuple(LANGUAGES), where)
    names = [entry.task for entry in definition.tasks]
    if definition.sort and definition.sort not in names:
        refuse("task to sort by", definition.sort, names, where)


def _check_metrics(definition: Definition, runs: Sequence[Run]) -> None:
    manifests = [run.manifest for run in runs]
    for entry in definition.tasks:
        parts = [part for m in manifests for part in m.tasks if part.name == entry.task]
        metrics = [metric.name for part in parts for metric in part.metrics]
        if entry.metric and metrics and entry.metric not in metrics:
            refuse(f"metric of {entry.task}", entry.metric, metrics, definition.title)
