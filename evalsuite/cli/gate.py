"""``evalsuite gate``: a regression gate for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def gate(
    baseline: Annotated[Path, typer.Option(help="The run to hold the candidate against.")],
    candidate: Annotated[Path, typer.Option(help="The run to judge.")],
    max_drop: Annotated[
        str, typer.Option(help="The loss still accepted: 1pt on the shown scale, or 2% relative.")
    ],
    tasks: Annotated[str, typer.Option(help="Only these, with commas.")] = "",
    min_coverage: Annotated[
        float, typer.Option(help="Share of the samples that both runs must have a score for.")
    ] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="The verdict as JSON.")] = False,
) -> int:
    """Is the candidate not worse than the baseline by more than a margin?

    Exit code 0 pass, 1 regression, 2 usage, 3 incomplete, incomparable or inconclusive, 4 engine
    failure.
    """
    from evalsuite import lines
    from evalsuite.compare import compare
    from evalsuite.gate import gate as judge
    from evalsuite.gate import parse_margin
    from evalsuite.report.comparison import print_verdict
    from evalsuite.store import open_run

    margin = parse_margin(max_drop)
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    comparison = compare(open_run(baseline), open_run(candidate), tasks=names)
    verdict = judge(comparison, margin, names, min_coverage=min_coverage)
    if json:
        print(lines.encode(verdict).decode())
    else:
        print_verdict(verdict, comparison)
    return verdict.exit_code
