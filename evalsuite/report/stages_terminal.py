"""Stages on a terminal: stage × task with changes, then what is wrong and why, in red."""

from __future__ import annotations

from typing import Any

from evalsuite.report.numbers import number
from evalsuite.report.stages_numbers import half, mark, signed
from evalsuite.report.stages_words import STAGES_WORDS, legend, reason
from evalsuite.report.tables import print_table
from evalsuite.report.visible import one_line
from evalsuite.stages.study import Stages


def print_stages(stages: Stages) -> None:
    """One table for each way of decoding, the rewards, the warnings and the notices."""
    for decoding in stages.decodings:
        print_table(_scores(stages, decoding))
    if stages.reward_models:
        print_table(_rewards(stages))
    words = STAGES_WORDS[stages.language]
    if stages.transitions:
        print(f"▲▼ {legend(stages)}")
    for alarm in stages.alarms:
        alarming = alarm.severity == "alarm"
        head = words["warning"] if alarming else words["notices"]
        text = f"{head}: {alarm.rung}, {words[alarm.decoding]}: {reason(alarm, stages.language)}"
        _print_line(one_line(text), "bold red" if alarming else "yellow")
    for note in stages.notes:
        print(f"note: {one_line(note)}")


def _scores(stages: Stages, decoding: str) -> Any:
    from rich.table import Table

    words = STAGES_WORDS[stages.language]
    title = f"{stages.title}  ·  {words[decoding]}"
    table = Table(title=one_line(title), title_justify="left", show_lines=True)
    table.add_column(words["stage"])
    for task in stages.tasks:
        table.add_column(one_line(task.name), justify="right")
    for rung in stages.rungs:
        alarmed = any(a.decoding == decoding for a in stages.alarms_of(rung.name))
        transition = stages.transition(rung.name, decoding)
        cells = []
        for task in stages.tasks:
            score = stages.score(rung.name, task.name, decoding)
            if score is None:
                cells.append("–")
                continue
            text = half(score.pooled, task.metric)
            change = transition.change(task.name) if transition else None
            if change is not None:
                text += f"\n{signed(change.score.difference, task.metric)} {mark(change)}"
            cells.append(text.strip())
        if any(cell != "–" for cell in cells):
            head = f"⚠ {rung.name}" if alarmed else rung.name
            table.add_row(one_line(head), *cells, style="red" if alarmed else "")
    return table


def _rewards(stages: Stages) -> Any:
    from rich.table import Table

    words = STAGES_WORDS[stages.language]
    table = Table(title=words["rewards"], title_justify="left")
    for column in (words["stage"], "", words["reward_model"]):
        table.add_column(column)
    for task in stages.tasks:
        table.add_column(one_line(task.name), justify="right")
    for decoding in stages.decodings:
        for name in stages.reward_models:
            for rung in stages.rungs:
                cells = [
                    _reward(stages, rung.name, task.name, decoding, name) for task in stages.tasks
                ]
                if any(cells):
                    table.add_row(one_line(rung.name), words[decoding], one_line(name), *cells)
            table.add_section()
    return table


def _reward(stages: Stages, rung: str, task: str, decoding: str, name: str) -> str:
    from evalsuite.stages.answers import REWARD

    score = stages.score(rung, task, decoding)
    if score is None or name not in score.rewards:
        return ""
    text = number(score.rewards[name].value, REWARD)
    transition = stages.transition(rung, decoding)
    change = transition.change(task) if transition else None
    if change is None or name not in change.rewards:
        return text
    return f"{text} ({signed(change.rewards[name].difference, REWARD)})"


def _print_line(text: str, style: str) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    console.print(text, style=style, soft_wrap=True)
