"""A bench record as one picture: a chart of dots with intervals for each workload, and memory."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from evalsuite.measurements import Bench, Quantity
from evalsuite.report.bench_table import shown_quantity
from evalsuite.report.chart import Dot, interval_chart
from evalsuite.report.visible import visible

PICTURE = "bench.svg"
_WIDTH, _MARGIN, _HEADING, _GAP, _AXIS, _ROW = 620, 20, 30, 18, 26, 40
_STYLE = Path(__file__).parent / "templates" / "bench_chart.css"

_CHARTS = (
    ("tokens_per_second", "tokens a second"),
    ("goodput", "requests a second within the limits"),
    ("ttft_p50", "seconds to the first token, median"),
    ("tpot_p50", "seconds a token after it, median"),
)
_MEMORY = (("peak", "peak memory of the process"), ("device_peak", "peak memory of the GPU"))


def bench_svg(bench: Bench) -> str:
    """The picture, which stands by itself."""
    charts = [
        (f"{workload.name}: {words}", _found(bench, workload.name, name))
        for name, words in _CHARTS
        for workload in bench.workloads
    ]
    charts += [(words, _found(bench, "", name)) for name, words in _MEMORY]
    parts, y = [], _MARGIN
    for title, quantities in charts:
        if not quantities:
            continue
        height = _ROW * len(quantities) + _AXIS
        heading = Markup('<text class="heading" x="0" y="{}">{}</text>')
        inner = Markup('<svg y="{}" width="{}" height="{}">{}</svg>')
        parts.append(heading.format(y + 16, visible(title)))
        parts.append(inner.format(y + _HEADING, _WIDTH, height, _chart(title, quantities)))
        y += _HEADING + height + _GAP
    shape = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="{} 0 {} {}" width="{}" height="{}">'
        "<style>{}</style>{}</svg>\n"
    )
    width = _WIDTH + 2 * _MARGIN
    style = Markup(_STYLE.read_text(encoding="utf-8"))
    return str(shape.format(-_MARGIN, width, y, width, y, style, Markup("\n").join(parts)))


def _found(bench: Bench, workload: str, name: str) -> list[tuple[str, Quantity]]:
    return [
        (configuration.label, found)
        for configuration in bench.configurations
        if (found := configuration.find(workload, name)) is not None
    ]


def _chart(title: str, quantities: list[tuple[str, Quantity]]) -> Markup:
    scale = 1 / 2**20 if quantities[0][1].unit == "B" else 1.0
    dots = [
        Dot(name=label, value=q.value, low=q.low, high=q.high, label=shown_quantity(q))
        for label, q in quantities
    ]
    return interval_chart(dots, title + (", MiB" if scale != 1 else ""), scale)
