"""Finding plugins by name: a task is one file, found by its path and never by a scan.

Order: folders given with ``--task-path``, the entry-point group ``evalsuite.tasks``, the tasks that
ship with evalsuite. The current folder is never looked at unless it is named.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from evalsuite.errors import BadTask, DataMissing, UnknownName
from evalsuite.task import Task

GROUP = "evalsuite.tasks"
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


def shipped_folder() -> Path:
    """The folder of the tasks that ship with evalsuite: inside the wheel, or beside the sources."""
    inside = Path(__file__).parent / "_tasks"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "tasks"


def task_names(task_path: Sequence[Path] = ()) -> dict[str, str]:
    """All task names → where each comes from (a file, or ``entry point``), sorted by name."""
    names = _files(shipped_folder())
    for point in entry_points(group=GROUP):
        names[point.name] = f"entry point {point.value}"
    for folder in reversed(task_path):
        names |= _files(folder)
    return dict(sorted(names.items()))


def load_task(name: str, task_path: Sequence[Path] = ()) -> Task:
    """Import the plugin ``name`` and return its ``TASK``.

    Raises:
        UnknownName: there is no such task; the nearest name is in the hint.
        BadTask: the file does not import, or binds no ``TASK`` of that name.
        DataMissing: a ``--task-path`` folder does not exist.
    """
    for folder in task_path:
        if not folder.is_dir():
            raise DataMissing("no such task folder", where=str(folder), hint="check --task-path")
    if _NAME.fullmatch(name):
        for folder in task_path:
            if (file := folder / f"{name}.py").is_file():
                return _from_file(name, file)
        for point in entry_points(group=GROUP):
            if point.name == name:
                return _from_entry_point(point)
        if (file := shipped_folder() / f"{name}.py").is_file():
            return _from_file(name, file)
    raise UnknownName("task", name, task_names(task_path), hint="`evalsuite tasks` lists them all")


def _files(folder: Path) -> dict[str, str]:
    return {file.stem: str(file) for file in folder.glob("*.py") if _NAME.fullmatch(file.stem)}


def _from_file(name: str, file: Path) -> Task:
    module_name = f"evalsuite_task_{name}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise BadTask("cannot be imported", where=str(file))
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as fault:
        raise BadTask(
            f"the task file fails to import: {type(fault).__name__}: {fault}", where=str(file)
        ) from fault
    return _checked(name, getattr(module, "TASK", None), file)


def _from_entry_point(point: EntryPoint) -> Task:
    try:
        task = point.load()
    except (Exception, SystemExit) as fault:
        raise BadTask(
            f"the entry point fails to load: {type(fault).__name__}: {fault}", where=point.value
        ) from fault
    file = inspect.getsourcefile(importlib.import_module(point.module))
    return _checked(point.name, task, Path(file or point.value))


def _checked(name: str, task: object, file: Path) -> Task:
    where = str(file)
    if not isinstance(task, Task):
        raise BadTask(
            "no TASK that is an evalsuite.Task",
            where=where,
            hint="end the file with `TASK = YourTask()`",
        )
    if task.meta.name != name:
        raise BadTask(
            f"its metadata says {task.meta.name!r} and its file says {name!r}",
            where=where,
            hint="make the two names equal",
        )
    if not task.variants or task.meta.main_metric not in {m.name for m in task.metrics}:
        raise BadTask(
            "it needs at least one variant, and a main_metric among its metrics", where=where
        )
    task.folder = file.parent
    if file.is_file():
        task.source_sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return task
