"""``evalsuite gate``: a regression gate for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evalsuite.cli import options

if TYPE_CHECKING:
    from evalsuite.cost_gate import Side


def gate(
    baseline: options.Baseline = None,
    candidate: options.Candidate = None,
    max_drop: options.MaxDrop = "",
    tasks: options.OnlyTasks = "",
    min_coverage: options.MinCoverage = 1.0,
    max_slowdown: options.MaxSlowdown = "",
    max_memory_growth: options.MaxMemoryGrowth = "",
    baseline_bench: options.BaselineBench = "",
    candidate_bench: options.CandidateBench = "",
    json: options.JsonVerdict = False,
) -> int:
    """Is the candidate not worse, slower or larger than the baseline by more than a margin?

    Scores are judged with --max-drop, speed and memory with --max-slowdown and --max-memory-growth
    on the records of `evalsuite bench`: those named, or those beside the runs with the same weights.

    Exit code 0 pass, 1 regression, 2 usage, 3 incomplete, incomparable or inconclusive, 4 engine
    failure.
    """
    from evalsuite import lines
    from evalsuite.compare import compare
    from evalsuite.cost_gate import gate_cost, parse_growth
    from evalsuite.errors import BadOption
    from evalsuite.gate import gate as judge
    from evalsuite.gate import parse_margin
    from evalsuite.report.comparison import print_cost_verdict, print_verdict
    from evalsuite.store import open_run

    slowdown = parse_growth(max_slowdown, "--max-slowdown") if max_slowdown else None
    growth = parse_growth(max_memory_growth, "--max-memory-growth") if max_memory_growth else None
    if not max_drop and slowdown is None and growth is None:
        raise BadOption("no margin", where="gate", hint="give --max-drop 1pt or --max-slowdown 5%")
    margin = parse_margin(max_drop) if max_drop else None
    verdict = costs = None
    if margin is not None:
        if baseline is None or candidate is None:
            raise BadOption(
                "two runs are needed", where="--max-drop", hint="--baseline, --candidate"
            )
        names = [name.strip() for name in tasks.split(",") if name.strip()]
        comparison = compare(open_run(baseline), open_run(candidate), tasks=names)
        verdict = judge(comparison, margin, names, min_coverage=min_coverage)
    if slowdown is not None or growth is not None:
        costs = gate_cost(
            *_sides(baseline, candidate, baseline_bench, candidate_bench),
            max_slowdown=slowdown,
            max_memory_growth=growth,
        )
    if json:
        print(
            lines.encode(verdict if costs is None else {"score": verdict, "cost": costs}).decode()
        )
    else:
        if verdict is not None:
            print_verdict(verdict, comparison)
        if costs is not None:
            print_cost_verdict(costs)
    codes = {found.exit_code for found in (verdict, costs) if found is not None}
    return next(code for code in (4, 1, 3, 0) if code in codes)


def _sides(
    baseline: Path | None, candidate: Path | None, baseline_bench: str, candidate_bench: str
) -> tuple[Side, Side]:
    from evalsuite.errors import BadOption
    from evalsuite.measurements import named_configuration, newest_of
    from evalsuite.store import open_run

    if baseline_bench and candidate_bench:
        return named_configuration(baseline_bench), named_configuration(candidate_bench)
    if baseline_bench or candidate_bench:
        missing = "--candidate-bench" if baseline_bench else "--baseline-bench"
        raise BadOption("two records are needed", where=missing)
    if baseline is None or candidate is None:
        raise BadOption(
            "nothing to compare",
            where="--max-slowdown",
            hint="give --baseline-bench and --candidate-bench, or two runs with records beside them",
        )
    return newest_of(open_run(baseline), open_run(candidate))
