"""``evalsuite score``: score a run's answers again, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.cli.options import SandboxChoice, SandboxName, TaskPath


def score(
    run: Path,
    data: Annotated[
        list[str] | None, typer.Option(help="TASK=PATH, where the data has moved since.")
    ] = None,
    sandbox: SandboxName = SandboxChoice.bubblewrap,
    task_path: TaskPath = None,
) -> None:
    """Apply the tasks' scorers, as they are now, to the answers that a run kept."""
    from evalsuite.cli.pairs import by_task
    from evalsuite.report.tables import print_results
    from evalsuite.rescore import rescore
    from evalsuite.store import open_run

    found = open_run(run)
    names = [part.name for part in found.manifest.tasks]
    folders = {name: Path(p) for name, p in by_task("--data", data or [], names).items() if p}
    changed = rescore(found, folders, task_path or (), sandbox.value)
    print_results(found.manifest, found.path)
    print(f"{changed} samples score differently than before")
