"""Options of the form ``TASK=VALUE`` and ``KEY=VALUE``."""

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


def by_key(option: str, values: Sequence[str]) -> dict[str, str]:
    """``["block_size=32", …]`` as a dictionary.

    Raises:
        BadOption: no ``=``, or a key named twice.
    """
    found: dict[str, str] = {}
    for entry in values:
        key, equals, value = entry.partition("=")
        if not equals or not key or not value:
            raise BadOption(f"{entry!r} is not KEY=VALUE", where=option)
        if key in found:
            raise BadOption(f"{key} is given twice", where=option)
        found[key] = value
    return found
