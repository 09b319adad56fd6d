"""A bench record in the JSON format of pytest-benchmark, for ``pytest-benchmark compare``."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Sequence
from typing import Any

from evalsuite import lines
from evalsuite.measurements import Bench, Configuration, Quantity

EXCHANGE = "pytest-benchmark.json"


def pytest_benchmark_json(bench: Bench) -> bytes:
    """One benchmark for each workload of each configuration; its data are seconds."""
    benchmarks = [
        _benchmark(bench, configuration, found)
        for workload in bench.workloads
        for configuration in bench.configurations
        if (found := configuration.find(workload.name, "seconds")) is not None
    ]
    return (
        lines.pretty(
            {
                "machine_info": _machine(bench),
                "commit_info": {"id": "unversioned", "dirty": False, "project": "evalsuite"},
                "benchmarks": benchmarks,
                "datetime": bench.created,
                "version": f"evalsuite {bench.evalsuite}",
            }
        )
        + b"\n"
    )


def _benchmark(bench: Bench, configuration: Configuration, found: Quantity) -> dict[str, Any]:
    name = f"{found.workload}[{configuration.label}]"
    others = {
        q.name: q.value
        for q in configuration.quantities
        if q.workload in ("", found.workload) and q.name != "seconds"
    }
    return {
        "group": found.workload,
        "name": name,
        "fullname": f"evalsuite bench::{name}",
        "params": {"configuration": configuration.label},
        "param": configuration.label,
        "extra_info": {**others, "fingerprint": configuration.fingerprint},
        "options": {"warmup": True, "min_rounds": bench.rounds},
        "stats": stats([second for repeats in found.rounds for second in repeats]),
    }


def _machine(bench: Bench) -> dict[str, Any]:
    system = bench.environment.get("platform", "")
    return {
        "node": "",
        "processor": bench.hardware.cpu,
        "machine": bench.hardware.signature,
        "python_version": bench.environment.get("python", ""),
        "system": system.partition("-")[0],
        "release": system,
        "cpu": {"brand_raw": bench.hardware.cpu, "count": bench.hardware.threads},
    }


def stats(data: Sequence[float]) -> dict[str, Any]:
    """The statistics that pytest-benchmark keeps of so many seconds, by its own formulas."""
    ordered = sorted(data)
    mean, deviation = statistics.mean(data), statistics.stdev(data) if len(data) > 1 else 0.0
    q1, q3 = _quartiles(ordered)
    spread = q3 - q1
    low, high = q1 - 1.5 * spread, q3 + 1.5 * spread
    far = sum(not mean - deviation <= x <= mean + deviation for x in data)
    out = sum(not low <= x <= high for x in data)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": spread,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": out,
        "stddev_outliers": far,
        "outliers": f"{far};{out}",
        "ld15iqr": ordered[bisect.bisect_left(ordered, low)],
        "hd15iqr": ordered[bisect.bisect_right(ordered, high) - 1],
        "ops": len(data) / sum(data) if sum(data) else 0.0,
        "total": sum(data),
        "data": list(data),
        "iterations": 1,
    }


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    """Methods 2 and 3 of https://en.wikipedia.org/wiki/Quartile, as pytest-benchmark has them."""
    count = len(ordered)
    if count == 1:
        return ordered[0], ordered[0]
    if count % 2 == 0:
        return statistics.median(ordered[: count // 2]), statistics.median(ordered[count // 2 :])
    n, rest = divmod(count, 4)
    if rest == 1:
        first = 0.25 * ordered[n - 1] + 0.75 * ordered[n]
        return first, 0.75 * ordered[3 * n] + 0.25 * ordered[3 * n + 1]
    first = 0.75 * ordered[n] + 0.25 * ordered[n + 1]
    return first, 0.25 * ordered[3 * n + 1] + 0.75 * ordered[3 * n + 2]
