"""``evalsuite show``: the results of a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def show(
    run: Path,
    json: Annotated[
        bool, typer.Option("--json", help="The manifest with results as JSON.")
    ] = False,
    by: Annotated[
        str | None, typer.Option(help="Break the main metric down by these tags, with commas.")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="Export records and scores as Parquet into this folder.")
    ] = None,
) -> None:
    """Show a run's scores with intervals, errors, truncations and warnings."""
    from evalsuite import lines
    from evalsuite.report.tables import print_breakdown, print_results
    from evalsuite.store import open_run

    found = open_run(run)
    if json:
        sys.stdout.write(lines.encode(found.manifest).decode("utf-8") + "\n")
    else:
        print_results(found.manifest, found.path)
        if by is not None:
            for tag in by.split(","):
                print_breakdown(found.manifest, tag.strip())
    if parquet is not None:
        from evalsuite.frames import load_run

        for file in load_run(run).to_parquet(parquet):
            print(f"wrote {file}", file=sys.stderr)
