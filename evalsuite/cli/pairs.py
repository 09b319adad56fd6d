"""Options of the form ``TASK=VALUE``."""

from __future__ import annotations

from collections.abc import Sequence

from evalsuite.errors import BadOption, UnknownName


def by_task(option: str, values: Sequence[str], tasks: Sequence[str]) -> dict[str, str]:
    """``["cmmlu=DIR", …]`` as a dictionary; the task must be one of those being run.

    A task is named as in ``--tasks``, or without its subset.

    Raises:
        BadOption: no ``=``, or a task named twice.
        UnknownName: a task that is not run.
    """
    found: dict[str, str] = {}
    known = [*tasks, *(name.partition("/")[0] for name in tasks)]
    for entry in values:
        task, equals, value = entry.partition("=")
        if not equals or not value:
            raise BadOption(f"{entry!r} is not TASK=VALUE", where=option)
        if task not in known:
            raise UnknownName("task among --tasks", task, known, where=option)
        if task in found:
            raise BadOption(f"{task} is given twice", where=option)
        found[task] = value
    return {name: found.get(name, found.get(name.partition("/")[0], "")) for name in tasks}
