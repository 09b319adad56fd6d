"""A leaderboard page as one HTML file that asks nothing of a network.

Everything that comes from runs is untrusted. Templates escape by default and show acting characters
(:func:`evalsuite.report.visible.visible`); samples travel as JSON in which no character can end a
script element; the script inserts them as text; and a content security policy with hashes forbids
any other script, style or request.
"""

from __future__ import annotations

import datetime
import math
from typing import Any, NamedTuple

import msgspec
from markupsafe import Markup

from evalsuite.lines import encode
from evalsuite.metrics.metric import Metric
from evalsuite.record import Interval
from evalsuite.report.board import Board, Cell, Column
from evalsuite.report.chart import Dot, interval_chart
from evalsuite.report.cost import shown_bytes
from evalsuite.report.numbers import limits, number
from evalsuite.report.page import render_page, source
from evalsuite.report.pareto import pareto_chart
from evalsuite.report.visible import visible
from evalsuite.report.words import LANGUAGES, WORDS
from evalsuite.stats.paired import Difference


class Breakdown(NamedTuple):
    """One tag of a column: models, and (value, estimate of each model)."""

    tag: str
    models: list[str]
    lines: list[tuple[str, list[Interval | None]]]


def render(board: Board) -> str:
    """The page as text that can be written as UTF-8."""

    def reason(cell: Cell) -> str:
        return WORDS[board.language][cell.reason].format(detail=cell.detail)

    return render_page(
        "leaderboard.html.j2",
        {
            "number": number,
            "signed": _signed,
            "limits": limits,
            "p_value": _p_value,
            "moment": _moment,
        },
        style=source("leaderboard.css"),
        script=source("leaderboard.js"),
        board=board,
        words=WORDS[board.language],
        language=LANGUAGES[board.language],
        data=Markup(embedded_json(_viewer(board))),
        pareto=[_pareto(board, index) for index in range(len(board.points))],
        memory=shown_bytes,
        charts=[_chart(board, index) for index in range(len(board.columns))],
        breakdowns=[_breakdown(board, index) for index in range(len(board.columns))],
        grid=[
            (row, list(zip(board.columns, cells, strict=True)))
            for row, cells in zip(board.rows, board.cells, strict=True)
        ],
        baseline=next((row.name for row in board.rows if row.is_baseline), ""),
        has_differences=any(cell.difference for line in board.cells for cell in line),
        missing_rows=lambda index: [
            (row.name, reason(cell))
            for row, cell in zip(board.rows, _column_cells(board, index), strict=True)
            if cell.interval is None
        ],
        reason=reason,
        direction=_direction,
        share=_share,
    )


def embedded_json(value: Any) -> str:
    """JSON for a script element: no ``<``, ``>``, ``&`` or line separator stands in it."""
    text = encode(value).decode("utf-8")
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _signed(value: float, metric: Metric) -> str:
    if not math.isfinite(value):
        return "–"
    text = f"{value * metric.scale:+.2f}"
    return text.replace("-", "−") if float(text) else "0.00"


def _p_value(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _moment(text: str) -> str:
    """An ISO time in UTC, to the minute; anything else as it is."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _share(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f}%" if share >= 1 or not part else "<1%"


def _direction(found: Difference, metric: Metric) -> str:
    """``up`` or ``down`` where the interval excludes zero, in the metric's direction."""
    if not (found.low > 0 or found.high < 0):
        return ""
    return "up" if (found.difference > 0) == metric.higher_is_better else "down"


def _chart(board: Board, index: int) -> Any:
    column = board.columns[index]
    if column.metric is None:
        return ""
    dots = [
        Dot(
            name=row.name,
            value=cell.interval.value,
            low=cell.interval.low,
            high=cell.interval.high,
            label=number(cell.interval.value, column.metric),
            is_baseline=row.is_baseline,
        )
        for row, cell in zip(board.rows, _column_cells(board, index), strict=True)
        if cell.interval is not None and math.isfinite(cell.interval.value)
    ]
    sign = -1 if column.metric.higher_is_better else 1
    dots.sort(key=lambda dot: (sign * dot.value, dot.name))
    return interval_chart(dots, f"{column.title}, {column.metric.name}", column.metric.scale)


def _pareto(board: Board, index: int) -> list[tuple[str, Any]]:
    """For each group of comparable configurations: its workload and picture."""
    column, points = board.columns[index], board.points[index]
    if column.metric is None:
        return []
    found = []
    for group in sorted({board.measured[p.measured].group for p in points}):
        mine = [p for p in points if board.measured[p.measured].group == group]
        first = board.measured[mine[0].measured]
        picture = pareto_chart(
            mine, board.measured, _heading(column), column.metric.scale, shown_bytes
        )
        found.append((first.workload, picture))
    return found


def _column_cells(board: Board, index: int) -> list[Cell]:
    return [line[index] for line in board.cells]


def _breakdown(board: Board, index: int) -> list[Breakdown]:
    """A table for each tag, with a column for each row of the board that has a score."""
    scored = [
        (row.name, cell.by_tag)
        for row, cell in zip(board.rows, _column_cells(board, index), strict=True)
        if cell.by_tag
    ]
    tables = []
    for tag in sorted({tag for _, by_tag in scored for tag in by_tag}):
        values = sorted({value for _, by_tag in scored for value in by_tag.get(tag, {})})
        lines = [(v, [by_tag.get(tag, {}).get(v) for _, by_tag in scored]) for v in values]
        tables.append(Breakdown(tag, [name for name, _ in scored], lines))
    return tables


def _viewer(board: Board) -> dict[str, Any]:
    """What the script needs: words, names and samples, with acting characters made visible."""
    columns = [
        {"key": column.key, "title": _heading(column), "set": samples}
        for column, samples in zip(board.columns, board.samples, strict=True)
        if samples.samples
    ]
    data = {
        "words": WORDS[board.language],
        "rows": [row.name for row in board.rows],
        "columns": columns,
    }
    shown: dict[str, Any] = _all_visible(msgspec.to_builtins(data))
    return shown


def _heading(column: Column) -> str:
    return f"{column.title} · {column.protocol}"


def _all_visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(key)): _all_visible(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_all_visible(entry) for entry in value]
    return value
