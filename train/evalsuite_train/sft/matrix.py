"""The stage × task matrix: what every stage won, lost and kept."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from evalsuite_train.errors import BadData, TrainError, shown
from evalsuite_train.files import write_whole
from evalsuite_train.sft.examination import Result

START = "parent"


class Forgotten(TrainError):
    """A stage lost more of a task than it may."""


class Matrix:
    """Results by stage, in the order of training, kept in a file from stage to stage.

    Args:
        file: ``matrix.json``; rows of the same ``key`` are taken over.
        key: names settings, data and parent.
    """

    def __init__(self, file: Path, key: str) -> None:
        self._file, self._key = file, key
        self.rows: dict[str, dict[str, Result]] = {}
        if not file.is_file():
            return
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            if kept["key"] == key:
                self.rows = msgspec.convert(kept["stages"], dict[str, dict[str, Result]])
        except (ValueError, KeyError, TypeError) as fault:
            raise BadData(
                f"not a matrix: {fault}", where=str(file), hint="remove the file"
            ) from None

    @property
    def tasks(self) -> list[str]:
        """The tasks, sorted."""
        return sorted({task for row in self.rows.values() for task in row})

    def add(self, stage: str, results: dict[str, Result]) -> None:
        """Add a stage's results and write ``matrix.json`` and ``matrix.svg``."""
        self.rows[stage] = results
        content: dict[str, Any] = {
            "key": self._key,
            "stages": msgspec.to_builtins(self.rows),
            "forgetting": self.forgetting(),
        }
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_whole(self._file, text)
        write_whole(self._file.with_suffix(".svg"), self.svg())

    def forgetting(self) -> dict[str, float]:
        """Task → its best earlier accuracy less its last one; negative where it is better than ever.

        Chaudhry et al. 2018 (arXiv 1801.10112), equation 3, for the last stage.
        """
        *earlier, last = self.rows.values()
        return {
            task: max(row[task].accuracy for row in earlier) - last[task].accuracy
            for task in self.tasks
            if earlier
        }

    def check(self, bound: float) -> None:
        """Refuse a last stage that forgot more than ``bound`` (in accuracy) of any task.

        Raises:
            Forgotten: names the stage and the tasks.
        """
        lost = {task: value for task, value in self.forgetting().items() if value > bound}
        if lost:
            named = ", ".join(f"{task} {value:.3f}" for task, value in sorted(lost.items()))
            raise Forgotten(
                f"accuracy lost since the best earlier stage: {named}; {bound} is allowed",
                where=f"{self._file}, {list(self.rows)[-1]}",
                hint="more replay, a lower learning_rate, or fewer steps; the stages stay on the disk",
            )

    def table(self) -> str:
        """The accuracies as text, with what was forgotten in the last line."""
        first = max(map(len, [*self.rows, "forgotten"]))
        names = [" ".join(task.split()) for task in self.tasks]
        columns = [max(len(name), 6) for name in names]

        def line(name: str, cells: list[str]) -> str:
            pairs = zip(cells, columns, strict=True)
            return name.ljust(first) + "".join("  " + cell.rjust(width) for cell, width in pairs)

        lines = [line("accuracy", names)]
        for stage, row in self.rows.items():
            lines.append(line(stage, [f"{row[task].accuracy:.3f}" for task in self.tasks]))
        if lost := self.forgetting():
            lines.append(line("forgotten", [f"{lost[task]:+.3f}" for task in self.tasks]))
        return "\n".join(lines)

    def svg(self) -> str:
        """The accuracies as a heat map, darker for better."""
        width, height, left, top = 96, 30, 110, 40
        parts = []
        for column, task in enumerate(self.tasks):
            at = left + column * width + width // 2
            parts.append(
                f'<text x="{at}" y="{top - 12}" text-anchor="middle">{escape(shown(task))}</text>'
            )
        for number, (stage, row) in enumerate(self.rows.items()):
            y = top + number * height
            parts.append(
                f'<text x="{left - 10}" y="{y + 20}" text-anchor="end">{escape(stage)}</text>'
            )
            for column, task in enumerate(self.tasks):
                value, x = row[task].accuracy, left + column * width
                shade, ink = 96 - 56 * value, "#fff" if value > 0.55 else "#222"
                parts.append(
                    f'<rect x="{x}" y="{y}" width="{width - 2}" height="{height - 2}" '
                    f'fill="hsl(212 60% {shade:.0f}%)"/>'
                    f'<text x="{x + width // 2}" y="{y + 19}" text-anchor="middle" fill="{ink}">'
                    f"{value:.3f}</text>"
                )
        size = left + len(self.tasks) * width + 10, top + len(self.rows) * height + 10
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" '
            'font-family="sans-serif" font-size="13" role="img">'
            "<title>Accuracy by stage and task</title>" + "".join(parts) + "</svg>\n"
        )
