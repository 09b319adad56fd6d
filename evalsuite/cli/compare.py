"""``evalsuite compare``: two runs, question by question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    baseline: Path,
    candidate: Path,
    tasks: Annotated[str, typer.Option(help="Only these, with commas.")] = "",
    by: Annotated[str, typer.Option(help="Break the main metric down by this tag.")] = "",
    json: Annotated[bool, typer.Option("--json", help="The whole comparison as JSON.")] = False,
) -> None:
    """Paired differences, candidate minus baseline, with 95% intervals and p values."""
    from evalsuite import lines
    from evalsuite.compare import compare as compare_runs
    from evalsuite.report.comparison import print_comparison
    from evalsuite.store import open_run

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    found = compare_runs(open_run(baseline), open_run(candidate), tasks=names)
    if json:
        print(lines.encode(found).decode())
    else:
        print_comparison(found, by=by)
