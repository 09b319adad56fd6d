"""From runs to the stages of a training: scores, transitions, alarms, win rates, samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

import msgspec

from evalsuite.metrics.metric import Metric
from evalsuite.record import Interval
from evalsuite.stages.alarms import Alarm, find_alarms, pairs_of
from evalsuite.stages.answers import Answers, read_answers, subset
from evalsuite.stages.crossed import score
from evalsuite.stages.definition import Definition
from evalsuite.stages.rungs import Cell, Ladder, Replicate, Rung, find_ladder
from evalsuite.stages.samples import ShownPair, shown_pairs
from evalsuite.stages.transition import Transition, by_seed, find_transition
from evalsuite.stages.wins import Matrix, find_matrix
from evalsuite.stats.sufficient import Statistics
from evalsuite.store import Run

_OPEN = ("open generation", "instruction following")
"""Domains of tasks whose questions have many good answers."""


class TaskHead(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the tables name it."""

    name: str
    title: str
    domain: str
    metric: Metric
    protocol: str
    samples: int


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One rung on one task under one way of decoding.

    Attributes:
        pooled: the mean over seeds; its interval is about seeds and questions.
        by_seed: label of the seed → its own score, where there are several.
        rewards: reward model → mean reward of finished answers.
        failures: kind → share of answers that failed so.
        categories: value of ``tag`` → the score on those questions.
    """

    rung: str
    task: str
    decoding: str
    pooled: Interval
    by_seed: dict[str, Interval]
    rewards: dict[str, Interval]
    truncated_rewards: int
    failures: dict[str, float]
    tag: str
    categories: dict[str, Interval]


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is behind the numbers."""

    run_id: str
    rung: str
    seed: str
    decoding: str
    fingerprint: str
    template: str
    engine: str
    evalsuite: str
    finished: str
    command: tuple[str, ...]


class Stages(msgspec.Struct, frozen=True, kw_only=True):
    """All that pages and tables of stages show.

    Attributes:
        alarms: by rung, in the order of the rungs; notices among them.
        compared: the two rungs whose samples stand in ``samples``; empty where there are none.
        evalsuite: the version that made this.
    """

    title: str
    language: str
    family: str
    margin: float
    rungs: tuple[Rung, ...]
    tasks: tuple[TaskHead, ...]
    decodings: tuple[str, ...]
    scores: tuple[Score, ...]
    transitions: tuple[Transition, ...]
    alarms: tuple[Alarm, ...]
    matrices: tuple[Matrix, ...]
    compared: tuple[str, ...]
    samples: tuple[ShownPair, ...]
    runs: tuple[RunLine, ...]
    notes: tuple[str, ...]
    evalsuite: str

    def score(self, rung: str, task: str, decoding: str) -> Score | None:
        """The score in a cell, or None where there is no run."""
        place = rung, task, decoding
        return next((s for s in self.scores if (s.rung, s.task, s.decoding) == place), None)

    def transition(self, rung: str, decoding: str) -> Transition | None:
        """The transition to a rung, or None for a first one."""
        place = rung, decoding
        return next((t for t in self.transitions if (t.rung, t.decoding) == place), None)

    def alarms_of(self, rung: str, severity: str = "alarm") -> list[Alarm]:
        """The alarms (or notices) of a rung."""
        return [a for a in self.alarms if a.rung == rung and a.severity == severity]

    @property
    def reward_models(self) -> tuple[str, ...]:
        """Names of the reward models that any rung was scored by."""
        return tuple(sorted({name for s in self.scores for name in s.rewards}))


def study(runs: Sequence[Run], definition: Definition | None = None) -> Stages:
    """Read the stages of one training out of finished runs.

    Raises:
        DataMissing: no finished run.
        UnknownName: the definition names a family, task or checkpoint that no run has.
        RunDamaged: records or rewards that cannot be read.
    """
    wanted = definition or Definition()
    ladder = find_ladder(runs, family=wanted.family, tasks=wanted.tasks)
    for name in wanted.compare:
        ladder.rung(name)
    notes = list(ladder.notes)
    answers = read_answers(ladder, notes)
    transitions, alarms = _transitions(ladder, answers, wanted.margin)
    compared = wanted.compare or _default_pair(ladder, alarms)
    return Stages(
        title=wanted.title,
        language=wanted.language,
        family=ladder.family,
        margin=wanted.margin,
        rungs=ladder.rungs,
        tasks=tuple(_head(ladder, task) for task in ladder.tasks),
        decodings=ladder.decodings,
        scores=tuple(_score(cell, answers[cell]) for cell in _in_order(ladder, answers)),
        transitions=tuple(transitions),
        alarms=tuple(alarms),
        matrices=tuple(_matrices(ladder, answers)),
        compared=tuple(compared),
        samples=tuple(shown_pairs(ladder, compared)) if len(compared) == 2 else (),
        runs=tuple(_run_lines(ladder)),
        notes=tuple(notes),
        evalsuite=version("evalsuite"),
    )


def _in_order(ladder: Ladder, answers: Mapping[Cell, object]) -> list[Cell]:
    cells = [
        Cell(rung.name, task, decoding)
        for decoding in ladder.decodings
        for rung in ladder.rungs
        for task in ladder.tasks
    ]
    return [cell for cell in cells if cell in answers]


def _transitions(
    ladder: Ladder, answers: Mapping[Cell, Mapping[Replicate, Answers]], margin: float
) -> tuple[list[Transition], list[Alarm]]:
    transitions, alarms = [], []
    for rung in ladder.rungs:
        if not rung.parent:
            continue
        for decoding in ladder.decodings:
            before = _by_task(ladder, answers, rung.parent, decoding)
            after = _by_task(ladder, answers, rung.name, decoding)
            shared = {task: (before[task], after[task]) for task in after if task in before}
            found = find_transition(rung.parent, rung.name, decoding, shared)
            if found.changes:
                transitions.append(found)
                alarms += find_alarms(found, pairs_of(before, after), margin)
    return transitions, alarms


def _by_task(
    ladder: Ladder,
    answers: Mapping[Cell, Mapping[Replicate, Answers]],
    rung: str,
    decoding: str,
) -> dict[str, Mapping[Replicate, Answers]]:
    cells = {task: Cell(rung, task, decoding) for task in ladder.tasks}
    return {task: answers[cell] for task, cell in cells.items() if cell in answers}


def _head(ladder: Ladder, task: str) -> TaskHead:
    part = ladder.tasks[task]
    return TaskHead(
        name=task,
        title=part.title,
        domain=part.domain,
        metric=next(m for m in part.metrics if m.name == part.main_metric),
        protocol=f"{part.variant} · {part.num_fewshot}-shot · v{part.version}",
        samples=part.samples,
    )


def _score(cell: Cell, replicates: Mapping[Replicate, Answers]) -> Score:
    ordered = sorted(replicates.items())
    models = sorted({name for _, a in ordered for name, _ in a.rewards})
    kinds = list(dict.fromkeys(kind for _, a in ordered for kind in a.failures))
    values = sorted({value for _, a in ordered for value in a.categories.values()})
    tables = [(replicate, a.scores) for replicate, a in ordered]
    categories = {}
    for value in values:
        parts = [
            (replicate, table)
            for replicate, a in ordered
            if (table := subset(a.scores, [s for s, v in a.categories.items() if v == value]))
        ]
        categories[value] = _pooled(parts)
    return Score(
        rung=cell.rung,
        task=cell.task,
        decoding=cell.decoding,
        pooled=_pooled(tables),
        by_seed={r.label: score([table]) for r, table in tables} if len(tables) > 1 else {},
        rewards={name: _pooled(_rewards(ordered, name)) for name in models},
        truncated_rewards=sum(a.truncated_rewards for _, a in ordered),
        failures={
            kind: _pooled([(r, a.failures[kind]) for r, a in ordered if kind in a.failures]).value
            for kind in kinds
        },
        tag=ordered[0][1].tag,
        categories=categories,
    )


def _pooled(tables: Sequence[tuple[Replicate, Statistics]]) -> Interval:
    nothing = Interval(float("nan"), float("nan"), float("nan"), 0)
    if not tables or not set.intersection(*(set(table.ids) for _, table in tables)):
        return nothing
    return score(by_seed(tables))


def _rewards(
    ordered: Sequence[tuple[Replicate, Answers]], name: str
) -> list[tuple[Replicate, Statistics]]:
    found = []
    for replicate, answers in ordered:
        keys = sorted(key for key in answers.rewards if key[0] == name)
        if keys:
            found.append((replicate, answers.rewards[keys[0]]))
    return found


def _default_pair(ladder: Ladder, alarms: Sequence[Alarm]) -> tuple[str, ...]:
    """The last rung without an alarm that has a parent, and that parent."""
    alarmed = {alarm.rung for alarm in alarms if alarm.severity == "alarm"}
    sound = [rung for rung in ladder.rungs if rung.parent and rung.name not in alarmed]
    return (sound[-1].parent, sound[-1].name) if sound else ()


def _matrices(ladder: Ladder, answers: Mapping[Cell, Mapping[Replicate, Answers]]) -> list[Matrix]:
    """Win rates over the open tasks, or over all generated ones where there is no open one."""
    written = [
        task
        for task in ladder.tasks
        if any(a.texts for c, of in answers.items() if c.task == task for a in of.values())
    ]
    tasks = [task for task in written if ladder.tasks[task].domain in _OPEN] or written
    models = sorted({name for of in answers.values() for a in of.values() for name, _ in a.rewards})
    rungs = [rung.name for rung in ladder.rungs]
    found = []
    for decoding in ladder.decodings:
        for measure, over in [("score", tasks), *((name, written) for name in models)]:
            of_task = {
                task: {
                    rung: answers[cell]
                    for rung in rungs
                    if (cell := Cell(rung, task, decoding)) in answers
                }
                for task in over
            }
            matrix = find_matrix(decoding, measure, rungs, of_task)
            if matrix.wins:
                found.append(matrix)
    return found


def _run_lines(ladder: Ladder) -> list[RunLine]:
    place = {rung.name: number for number, rung in enumerate(ladder.rungs)}
    found = {}
    for cell, sources in ladder.cells.items():
        for replicate, source in sources.items():
            manifest = source.run.manifest
            checkpoint = manifest.checkpoint
            engine = [str(v) if k == "name" else f"{k} {v}" for k, v in manifest.engine.items()]
            found[place[cell.rung], cell.decoding, replicate, manifest.run_id] = RunLine(
                run_id=manifest.run_id,
                rung=checkpoint.name,
                seed=replicate.label,
                decoding=cell.decoding,
                fingerprint=checkpoint.fingerprint,
                template=checkpoint.chat_template,
                engine=" · ".join(engine),
                evalsuite=manifest.evalsuite,
                finished=manifest.finished,
                command=manifest.command,
            )
    return [found[key] for key in sorted(found)]
