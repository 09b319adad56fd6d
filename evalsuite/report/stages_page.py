"""A page of stages as one HTML file, and the curves alone as one SVG file; neither asks for another.

Everything that comes from runs is untrusted: the template escapes, acting characters are made visible,
and a content security policy forbids any script but the page's own.
"""

from __future__ import annotations

import shlex
from typing import Any

from markupsafe import Markup

from evalsuite.report import numbers, stages_numbers
from evalsuite.report.page import render_page, source
from evalsuite.report.stages_chart import HEIGHT, WIDTH, Curve, stages_chart
from evalsuite.report.stages_words import STAGES_WORDS, legend, reason
from evalsuite.report.visible import visible
from evalsuite.report.words import LANGUAGES
from evalsuite.stages.answers import REWARD
from evalsuite.stages.study import Stages, TaskHead
from evalsuite.stages.wins import WIN_RATE

_COLUMNS = 2
_HEADING = 24
_LEGEND = 30


def render_stages(stages: Stages) -> str:
    """The page as text that can be written as UTF-8."""
    filters: dict[str, Any] = {"shell": shlex.join}
    filters |= {name: getattr(numbers, name) for name in ("number", "limits")}
    names = ("signed", "signed_limits", "percent", "p_value", "mark", "points", "lost")
    filters |= {name: getattr(stages_numbers, name) for name in names}
    return render_page(
        "stages.html.j2",
        filters,
        style=source("leaderboard.css") + source("stages.css"),
        script=source("stages.js"),
        stages=stages,
        words=STAGES_WORDS[stages.language],
        language=LANGUAGES[stages.language],
        charts=[chart(stages, task) for task in stages.tasks],
        alarms=[a for a in stages.alarms if a.severity == "alarm"],
        notices=[a for a in stages.alarms if a.severity == "notice"],
        legend=legend(stages),
        reason=lambda alarm: reason(alarm, stages.language),
        REWARD=REWARD,
        WIN_RATE=WIN_RATE,
        share=_share,
    )


def chart(stages: Stages, task: TaskHead) -> Markup:
    """The curves of one task."""
    words = STAGES_WORDS[stages.language]
    curves = [
        Curve(
            words[decoding],
            {
                score.rung: score.pooled
                for score in stages.scores
                if (score.task, score.decoding) == (task.name, decoding)
            },
        )
        for decoding in stages.decodings
    ]
    alarmed = {
        alarm.rung: reason(alarm, stages.language)
        for alarm in reversed(stages.alarms)
        if alarm.severity == "alarm"
    }
    return stages_chart(
        stages.rungs,
        curves,
        alarmed,
        title=f"{task.title}, {task.metric.name}",
        scale=task.metric.scale,
    )


def curves_svg(stages: Stages) -> str:
    """All curves in one picture that stands by itself, for a document."""
    words = STAGES_WORDS[stages.language]
    rows = -(-len(stages.tasks) // _COLUMNS)
    width, height = _COLUMNS * WIDTH, rows * (HEIGHT + _HEADING) + _LEGEND
    parts = []
    for number, task in enumerate(stages.tasks):
        x, y = (number % _COLUMNS) * WIDTH, (number // _COLUMNS) * (HEIGHT + _HEADING)
        heading = Markup('<text class="heading" x="{}" y="{}">{} · {}</text>')
        shift = Markup('<g transform="translate({} {})">{}</g>')
        title = heading.format(x + 10, y + 17, visible(task.name), visible(task.metric.name))
        parts.append(title + shift.format(x, y + _HEADING, chart(stages, task)))
    for number, decoding in enumerate(stages.decodings):
        legend = Markup(
            '<circle class="dot series{0}" cx="{1}" cy="{2}" r="4"/>'
            '<text class="tick" x="{3}" y="{4}">{5}</text>'
        )
        x, y = 20 + 140 * number, height - 12
        parts.append(legend.format(number, x, y, x + 10, y + 4, words[decoding]))
    shape = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}">'
        "<style>{2}</style>{3}</svg>\n"
    )
    style = Markup(source("stages_curves.css"))
    return str(shape.format(width, height, style, Markup("\n").join(parts)))


def _share(value: float) -> str:
    """A background's strength for a win rate, as a class: w0 (loses) … w10 (wins)."""
    return f"w{round(10 * min(max(value, 0.0), 1.0))}"
