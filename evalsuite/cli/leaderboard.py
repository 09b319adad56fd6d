"""``evalsuite leaderboard``: one HTML file from a definition and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leaderboard(
    definition: Path,
    runs: Annotated[
        Path | None, typer.Option(help="A folder of runs, instead of the definition's own.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write index.html; beside the definition's site/.")
    ] = None,
) -> None:
    """Build a leaderboard that opens from file://."""
    from evalsuite.errors import DataMissing
    from evalsuite.leaderboard import (
        absent_tasks,
        build_leaderboard,
        missing_baseline,
        read_definition,
        run_folders,
    )
    from evalsuite.report.visible import visible
    from evalsuite.store import find_runs, open_run

    board = read_definition(definition)
    damaged: list[str] = []
    found = (
        find_runs(runs, damaged)
        if runs is not None
        else [open_run(folder) for folder in run_folders(board, definition.parent)]
    )
    if not found:
        where = str(runs if runs is not None else definition)
        raise DataMissing("no runs to show", where=where, hint="give --runs DIR")
    for fault in damaged:
        print(f"note: left out: {visible(fault)}")
    for note in absent_tasks(board, found):
        print(f"note: {visible(note)}")
    if note := missing_baseline(board, found):
        print(f"note: {visible(note)}")
    target = out or definition.parent / "site" / definition.stem
    page = build_leaderboard(board, found, target)
    print(f"leaderboard: {page.resolve()}")
