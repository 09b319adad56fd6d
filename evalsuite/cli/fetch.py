"""``evalsuite fetch``: a task's real data from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.cli.options import TaskPath


def fetch(
    task: str,
    out: Annotated[
        Path | None, typer.Option(help="Where to put it; a folder in the cache by default.")
    ] = None,
    task_path: TaskPath = None,
) -> None:
    """Download a task's data at its revision, and record revision and checksums."""
    from evalsuite.fetching import default_folder
    from evalsuite.fetching import fetch as download
    from evalsuite.registry import load_task

    plugin = load_task(task, task_path or ())
    folder = download(plugin, out or default_folder(plugin.meta.name))
    print(f"fetched {task} into {folder}")
    print(f"next: evalsuite run --model CHECKPOINT --tasks {task} --data {task}={folder}")
