"""Stages as a Markdown file, complete, with the same words and numbers as the page.

The same runs give the same bytes: nothing here depends on the clock or on where the runs lie.
"""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterator, Sequence

from evalsuite.report.numbers import limits, number
from evalsuite.report.stages_numbers import (
    half,
    lost,
    mark,
    p_value,
    percent,
    points,
    signed,
    signed_limits,
)
from evalsuite.report.stages_words import STAGES_WORDS, legend, reason
from evalsuite.report.visible import visible
from evalsuite.stages.answers import REWARD
from evalsuite.stages.study import Stages
from evalsuite.stages.transition import Change
from evalsuite.stages.wins import WIN_RATE

_SPECIAL = re.compile(r"([\\`*_\[\]|#~])")


def stages_markdown(stages: Stages, picture: str) -> str:
    """The whole file.

    Args:
        picture: the file name of the curves beside it.
    """
    words = STAGES_WORDS[stages.language]
    parts = [
        f"<!-- written by evalsuite stages {stages.evalsuite}; do not edit -->",
        f"# {_plain(stages.title)}",
        f"*{words['written'].format(version=stages.evalsuite)}*",
        *_warnings(stages),
        f"![{words['curves']}]({picture})",
        words["curves_help"],
        *_scores(stages),
        *_transitions(stages),
        *_rewards(stages),
        *_failures(stages),
        *_matrices(stages),
        *_categories(stages),
        f"## {words['method']}",
        words["method_text"],
        *_runs(stages),
    ]
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """Any text as plain words of Markdown, on one line."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(visible(text).split()), quote=False))


def _code(text: str) -> str:
    """Any text as a code span in a table or list."""
    return f"<code>{_plain(text)}</code>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell or " " for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _warnings(stages: Stages) -> Iterator[str]:
    words = STAGES_WORDS[stages.language]
    for severity, title in (("alarm", words["warnings"]), ("notice", words["notices"])):
        found = [alarm for alarm in stages.alarms if alarm.severity == severity]
        if found:
            yield f"## {title}"
            yield "\n".join(
                f"- {'⚠ ' if severity == 'alarm' else ''}**{_plain(alarm.rung)}**"
                f" ({words[alarm.decoding]}): {_plain(reason(alarm, stages.language))}"
                for alarm in found
            )


def _scores(stages: Stages) -> Iterator[str]:
    words = STAGES_WORDS[stages.language]
    yield f"## {words['scores']}"
    yield words["scores_help"]
    for decoding in stages.decodings:
        yield f"### {words['scores']}: {words[decoding]}"
        head = [words["stage"], words["seeds"], *(_plain(task.name) for task in stages.tasks)]
        rows = []
        for rung in stages.rungs:
            found = [stages.score(rung.name, task.name, decoding) for task in stages.tasks]
            if not any(found):
                continue
            labels = list(dict.fromkeys(label for s in found if s for label in s.by_seed))
            warned = (
                "⚠ " if any(a.decoding == decoding for a in stages.alarms_of(rung.name)) else ""
            )
            cells = [
                f"**{half(score.pooled, task.metric)}**" if score else words["no_run"]
                for score, task in zip(found, stages.tasks, strict=True)
            ]
            count = str(len(labels)) if labels else "1"
            rows.append([f"{warned}**{_plain(rung.name)}**", count, *cells])
            for label in labels:
                own = [
                    half(score.by_seed[label], task.metric)
                    if score and label in score.by_seed
                    else ""
                    for score, task in zip(found, stages.tasks, strict=True)
                ]
                rows.append([_plain(rung.name), label, *own])
        questions = [str(task.samples) for task in stages.tasks]
        metrics = [_plain(task.metric.name) for task in stages.tasks]
        yield _table(head, [["", "n", *questions], ["", "", *metrics], *rows])


def _transitions(stages: Stages) -> Iterator[str]:
    words = STAGES_WORDS[stages.language]
    if not stages.transitions:
        return
    yield f"## {words['transitions']}"
    yield f"{legend(stages)}\n{words['lost_help']}"
    for decoding in stages.decodings:
        rows = [
            [
                f"{_plain(transition.parent)} → {_plain(transition.rung)}",
                _plain(change.task),
                *_change_cells(change),
                words[lost(change, stages.margin)],
            ]
            for transition in stages.transitions
            if transition.decoding == decoding
            for change in transition.changes
        ]
        if rows:
            yield f"### {words['transitions']}: {words[decoding]}"
            head = [words["stage"], words["task"], words["change"], "95%", ""]
            head += [f"Holm, {words['these']}", f"Holm, {words['others']}", words["seeds"]]
            head += [words["lost"].format(margin=points(stages.margin))]
            yield _table(head, rows)


def _change_cells(change: Change) -> list[str]:
    """Change, interval, mark, both p values, and each seed's own change."""
    seeds = [
        f"{label}: {signed(d.difference, change.metric)}" for label, d in change.by_seed.items()
    ]
    return [
        signed(change.score.difference, change.metric),
        signed_limits(change.score, change.metric),
        mark(change),
        p_value(change.fixed_p_holm),
        p_value(change.p_holm) if change.seeds > 1 else "",
        "; ".join(seeds) if len(seeds) > 1 else "",
    ]


def _rewards(stages: Stages) -> Iterator[str]:
    words = STAGES_WORDS[stages.language]
    rows = []
    for decoding in stages.decodings:
        for name in stages.reward_models:
            for rung in stages.rungs:
                transition = stages.transition(rung.name, decoding)
                for task in stages.tasks:
                    score = stages.score(rung.name, task.name, decoding)
                    if score is None or name not in score.rewards:
                        continue
                    change = transition.change(task.name) if transition else None
                    found = change.rewards.get(name) if change else None
                    p = p_value(change.reward_p_holm[name]) if change and found else ""
                    rows.append(
                        [
                            _plain(rung.name),
                            words[decoding],
                            _plain(name),
                            _plain(task.name),
                            half(score.rewards[name], REWARD),
                            signed(found.difference, REWARD) if found else "",
                            p,
                            str(score.truncated_rewards),
                        ]
                    )
    if rows:
        yield f"## {words['rewards']}"
        yield words["rewards_help"]
        head = [words["stage"], "", words["reward_model"], words["task"], words["rewards"]]
        yield _table([*head, words["change"], "Holm", words["cut_off"]], rows)


def _failures(stages: Stages) -> Iterator[str]:
    words = STAGES_WORDS[stages.language]
    kinds = list(dict.fromkeys(kind for score in stages.scores for kind in score.failures))
    rows = [
        [
            _plain(score.rung),
            words[score.decoding],
            _plain(score.task),
            *(percent(score.failures[k]) if k in score.failures else "" for k in kinds),
        ]
        for score in stages.scores
        if any(value > 0 for value in score.failures.values())
    ]
    if rows:
        yield f"## {words['failures']}"
        yield words["failures_help"]
        yield _table([words["stage"], "", words["task"], *(words[kind] for kind in kinds)], rows)


def _matrices(stages: Stages) -> Iterator[str]:
    words = STAGES_WORDS[stages.language]
    for matrix in stages.matrices:
        how = (
            words["by_score"]
            if matrix.measure == "score"
            else words["by_reward"].format(name=_plain(matrix.measure))
        )
        yield f"## {words['matrix']}: {words[matrix.decoding]}, {how}"
        yield words["matrix_help"].format(tasks=", ".join(map(_plain, matrix.tasks)))
        rows = []
        for row in matrix.rungs:
            cells = [_plain(row)]
            for column in matrix.rungs:
                win = matrix.wins[row].get(column)
                cells.append(
                    f"{number(win.rate.value, WIN_RATE)} ({limits(win.rate, WIN_RATE)})"
                    if win
                    else ""
                )
            rows.append(cells)
        yield _table(["", *map(_plain, matrix.rungs)], rows)


def _categories(stages: Stages) -> Iterator[str]:
    words = STAGES_WORDS[stages.language]
    decoding = stages.decodings[0]
    for task in stages.tasks:
        found = [
            score
            for rung in stages.rungs
            if (score := stages.score(rung.name, task.name, decoding)) and score.categories
        ]
        values = sorted({value for score in found for value in score.categories})
        if not values:
            continue
        rows = [
            [
                _plain(value),
                *(
                    half(score.categories[value], task.metric) if value in score.categories else ""
                    for score in found
                ),
            ]
            for value in values
        ]
        yield f"## {words['categories']}: {_plain(task.name)}, {words[decoding]}"
        yield _table([_plain(found[0].tag), *(_plain(score.rung) for score in found)], rows)


def _runs(stages: Stages) -> Iterator[str]:
    words = STAGES_WORDS[stages.language]
    yield f"## {words['runs']}"
    rows = [
        [
            _plain(run.rung),
            run.seed,
            words[run.decoding],
            _code(run.run_id),
            _code(run.fingerprint[:12]),
            _plain(run.template),
            _plain(f"evalsuite {run.evalsuite} · {run.engine}"),
        ]
        for run in stages.runs
    ]
    head = [words["stage"], words["seeds"], "", "run", words["fingerprint"]]
    yield _table([*head, "template", "engine"], rows)
    commands = dict.fromkeys(visible(shlex.join(run.command)) for run in stages.runs)
    lines = [line.replace("\n", " ") for line in commands]
    yield f"{words['command']}:"
    yield "\n".join(f"    {line}" for line in lines)
    if stages.notes:
        yield f"## {words['notes']}"
        yield "\n".join(f"- {_plain(note)}" for note in stages.notes)
