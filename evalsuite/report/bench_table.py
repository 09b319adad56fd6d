"""A bench record on a terminal."""

from __future__ import annotations

import math

from evalsuite.measurements import Bench, Configuration, Quantity
from evalsuite.report.cost import shown_bytes
from evalsuite.report.tables import print_table
from evalsuite.report.visible import visible
from evalsuite.stats.medians import ratio

_SPEED = "tokens_per_second"
_BESIDE = (
    "answer_tokens_per_second",
    "requests_per_second",
    "cpu_seconds",
    "mfu",
    "bandwidth_use",
    "floor_share",
)
_LOAD = (
    "ttft_p50",
    "ttft_p99",
    "tpot_p50",
    "tpot_p99",
    "itl_p50",
    "itl_p99",
    "requests_per_second",
    "answer_tokens_per_second",
    "goodput",
    "failed",
)
_WHOLE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("", ("startup", "load")),
    ("", ("weights", "kv_per_token", "activations", "peak")),
    ("", ("device_peak", "device_reserved", "nvml")),
    ("alone", ("ttft", "tpot", "itl_p50", "itl_p99")),
    ("", ("matrix_ceiling", "bandwidth_ceiling")),
)


def print_bench(bench: Bench, where: str) -> None:
    """Speed by workload, then memory and start-up, then what may have falsified them."""
    print(f"{visible(bench.hardware.signature)}")
    if bench.hardware.server:
        _print_load(bench)
    else:
        _print_speed(bench)
        _print_whole(bench)
    for configuration in bench.configurations:
        if configuration.failure:
            print(f"failed: {visible(configuration.label)}: {visible(configuration.failure)}")
    for warning in bench.warnings:
        print(f"warning: {visible(warning)}")
    print(f"bench: {visible(where)}")


def _print_speed(bench: Bench) -> None:
    from rich.table import Table

    table = Table(title=f"median of {bench.rounds} rounds [95%]", title_justify="left")
    table.add_column("workload")
    table.add_column("configuration", overflow="fold")
    names = ["tokens/s", "answer tokens/s", "requests/s", "CPU s", "MFU", "bandwidth", "of floor"]
    joules = any(q.name == "joules_per_token" for c in bench.configurations for q in c.quantities)
    several = len(bench.configurations) > 1
    for name in [*names, *(["J/token"] if joules else []), *(["× first"] if several else [])]:
        table.add_column(name, justify="right")
    for workload in bench.workloads:
        first = bench.configurations[0].find(workload.name, "tokens_per_second")
        for number, configuration in enumerate(bench.configurations):
            cells = [_cell(configuration, workload.name, _SPEED)]
            cells += [_median(configuration, workload.name, name) for name in _BESIDE]
            if joules:
                cells.append(_median(configuration, workload.name, "joules_per_token"))
            if several:
                mine = configuration.find(workload.name, "tokens_per_second")
                cells.append(_times(first, mine) if number else "")
            head = workload.name if number == 0 else ""
            table.add_row(visible(head), visible(configuration.label), *cells)
        table.add_section()
    print_table(table)


def _print_load(bench: Bench) -> None:
    """A row for each rate of each model."""
    from rich.table import Table

    table = Table(title=f"median of {bench.rounds} rounds [95%]", title_justify="left")
    table.add_column("rate")
    table.add_column("model", overflow="fold")
    for name in _LOAD:
        table.add_column(name.replace("_per_second", "/s").replace("_", " "), justify="right")
    for workload in bench.workloads:
        for configuration in bench.configurations:
            cells = [_median(configuration, workload.name, name) for name in _LOAD]
            cells[0] = _cell(configuration, workload.name, _LOAD[0])
            table.add_row(workload.name, visible(configuration.label), *cells)
        table.add_section()
    print_table(table)


def _print_whole(bench: Bench) -> None:
    """A row for each quantity, since there are more of them than configurations."""
    from rich.table import Table

    table = Table(title="start-up, memory, one request alone", title_justify="left")
    table.add_column("")
    for configuration in bench.configurations:
        table.add_column(visible(configuration.label), justify="right", overflow="fold")
    for workload, names in _WHOLE:
        for name in names:
            cells = [_cell(c, workload, name) for c in bench.configurations]
            if any(cell != "–" for cell in cells):
                table.add_row(name.replace("_", " "), *cells)
        table.add_section()
    print_table(table)


def _cell(configuration: Configuration, workload: str, name: str) -> str:
    found = configuration.find(workload, name)
    return "–" if found is None else shown_quantity(found)


def _median(configuration: Configuration, workload: str, name: str) -> str:
    found = configuration.find(workload, name)
    return "–" if found is None else _shown(found.value, found.unit)


def _times(first: Quantity | None, mine: Quantity | None) -> str:
    if first is None or mine is None:
        return "–"
    found = ratio(first.rounds, mine.rounds, paired=True)
    if math.isnan(found.low):
        return f"{found.value:.2f}"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def shown_quantity(found: Quantity) -> str:
    """The median, with its limits where they say more than the median does."""
    text = _shown(found.value, found.unit)
    limits = [_shown(x, found.unit) for x in (found.low, found.high) if math.isfinite(x)]
    if len(limits) < 2 or limits == [text, text] or found.unit in ("B", "FLOP/s", "B/s"):
        return text
    return f"{text} [{', '.join(limits)}]"


def _shown(value: float, unit: str) -> str:
    if math.isnan(value):
        return "–"
    if unit == "B":
        return shown_bytes(value)
    if unit == "share":
        return f"{value:.1%}"
    if unit in ("FLOP/s", "B/s"):
        return f"{value / 1e9:,.0f} G{unit}"
    if unit == "s" and value < 1:
        return f"{value * 1e3:.1f} ms"
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{decimals}f}" + (" s" if unit == "s" else "")
