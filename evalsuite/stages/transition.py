"""From one rung to another: what changed, question by question, on every task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from evalsuite.metrics.metric import Metric
from evalsuite.stages.answers import Answers
from evalsuite.stages.crossed import aligned, averaged, change, fixed_change
from evalsuite.stages.rungs import Replicate
from evalsuite.stats.interval import LEVEL
from evalsuite.stats.paired import Difference
from evalsuite.stats.sufficient import Statistics

Column = Callable[[Answers, Answers], tuple[Statistics | None, Statistics | None]]
"""Which of the tables of two answers: scores, a reward model's rewards, a kind of failure."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One task, from a rung's parent to the rung.

    Attributes:
        score: of the main metric over all seeds; its interval and p value are about other seeds and
            other questions. So are ``rewards``, by reward model, and ``failures``, by kind.
        fixed: the same difference with an interval and a p value for these very checkpoints: only
            the questions could have been others.
        by_seed: label of the seed, or of the draw → its own difference.
        seeds: how many seeds of the rung are compared. Nothing is known about other seeds with one,
            however often its answers were drawn.
        p_holm: p value of ``score``, corrected for the tasks of this transition (Holm 1979), nan
            where it cannot be known; likewise ``fixed_p_holm``, ``reward_p_holm`` and
            ``failure_p_holm``.
    """

    task: str
    title: str
    metric: Metric
    score: Difference
    fixed: Difference
    by_seed: dict[str, Difference]
    seeds: int
    rewards: dict[str, Difference]
    failures: dict[str, Difference]
    p_holm: float = math.nan
    fixed_p_holm: float = math.nan
    reward_p_holm: dict[str, float] = {}
    failure_p_holm: dict[str, float] = {}


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """A rung against its parent under one way of decoding, task by task."""

    parent: str
    rung: str
    decoding: str
    changes: tuple[Change, ...]

    def change(self, task: str) -> Change | None:
        """The change on a task, where both rungs have answered it."""
        return next((found for found in self.changes if found.task == task), None)


def seed_pairs(
    before: Mapping[Replicate, Answers], after: Mapping[Replicate, Answers]
) -> list[tuple[Replicate, Answers, Answers]]:
    """Replicates that belong together: the same seed of both, or one parent for every seed."""
    common = sorted(before.keys() & after.keys())
    if common:
        return [(replicate, before[replicate], after[replicate]) for replicate in common]
    if len(before) == 1:
        [only] = before.values()
        return [(replicate, only, after[replicate]) for replicate in sorted(after)]
    if len(after) == 1:
        [only] = after.values()
        return [(replicate, before[replicate], only) for replicate in sorted(before)]
    return []


def by_seed(pairs: Sequence[tuple[Replicate, Statistics]]) -> list[Statistics]:
    """One table for each seed of the training; its draws, which are no seeds, are averaged.

    With one seed the draws are what can be repeated, so each has its own table.
    """
    seeds = sorted({replicate.seed for replicate, _ in pairs})
    if len(seeds) < 2:
        return [table for _, table in pairs]
    groups = [[table for r, table in pairs if r.seed == seed] for seed in seeds]
    return [averaged(aligned(group)) if len(group) > 1 else group[0] for group in groups]


def find_transition(
    parent: str,
    rung: str,
    decoding: str,
    tasks: Mapping[str, tuple[Mapping[Replicate, Answers], Mapping[Replicate, Answers]]],
) -> Transition:
    """Compare two rungs on every task that both have answered.

    Args:
        tasks: task → answers of the parent, answers of the rung.
    """
    changes = []
    for task, (before, after) in tasks.items():
        pairs = seed_pairs(before, after)
        seeds = min(len({r.seed for r in after}), len({r.seed for r, _, _ in pairs}))
        found = _change(task, pairs, seeds)
        if found is not None:
            changes.append(found)
    return Transition(
        parent=parent, rung=rung, decoding=decoding, changes=tuple(_corrected(changes))
    )


def paired(
    pairs: Sequence[tuple[Replicate, Answers, Answers]],
    column: Column,
    level: float = LEVEL,
    compare: Callable[..., Difference] = change,
) -> Difference | None:
    """The difference in one column over all seeds; None where no sample has it on both sides."""
    before, after = [], []
    for replicate, one, two in pairs:
        a, b = column(one, two)
        if a is not None and b is not None and set(a.ids) & set(b.ids):
            before.append((replicate, a))
            after.append((replicate, b))
    if not before:
        return None
    common = set.intersection(*(set(table.ids) for _, table in (*before, *after)))
    return compare(by_seed(before), by_seed(after), level) if common else None


def _change(
    task: str, pairs: Sequence[tuple[Replicate, Answers, Answers]], seeds: int
) -> Change | None:
    score = paired(pairs, scores)
    if score is None:
        return None
    models = sorted({key[0] for _, one, two in pairs for key in one.rewards.keys() & two.rewards})
    kinds = {k: None for _, one, two in pairs for k in one.failures if k in two.failures}
    rewards = {name: paired(pairs, reward(name)) for name in models}
    failures = {kind: paired(pairs, failure(kind)) for kind in kinds}
    fixed = paired(pairs, scores, compare=fixed_change)
    assert fixed is not None
    own = {r.label: paired([(r, one, two)], scores) for r, one, two in pairs}
    part = pairs[0][2].part
    return Change(
        task=task,
        title=part.title,
        metric=pairs[0][2].metric,
        score=score,
        fixed=fixed,
        by_seed={label: found for label, found in own.items() if found is not None},
        seeds=seeds,
        rewards={name: found for name, found in rewards.items() if found is not None},
        failures={kind: found for kind, found in failures.items() if found is not None},
    )


def scores(one: Answers, two: Answers) -> tuple[Statistics, Statistics]:
    """The column of the main metric."""
    return one.scores, two.scores


def reward(name: str) -> Column:
    """The column of a reward model; of several with that name, one that rewarded both sides.

    Each seed of a training may have its own: a difference is taken under one and the same model.
    """

    def column(one: Answers, two: Answers) -> tuple[Statistics | None, Statistics | None]:
        keys = sorted(key for key in one.rewards.keys() & two.rewards if key[0] == name)
        return (one.rewards[keys[0]], two.rewards[keys[0]]) if keys else (None, None)

    return column


def failure(kind: str) -> Column:
    """The column of a kind of failure."""
    return lambda one, two: (one.failures.get(kind), two.failures.get(kind))


def _corrected(changes: Sequence[Change]) -> list[Change]:
    """The changes with Holm's correction over tasks: scores, each reward model, all failures."""
    main = holm([found.score.p_value for found in changes])
    fixed = holm([found.fixed.p_value for found in changes])
    models = sorted({name for found in changes for name in found.rewards})
    rewards: list[dict[str, float]] = [{} for _ in changes]
    for name in models:
        places = [i for i, found in enumerate(changes) if name in found.rewards]
        values = holm([changes[i].rewards[name].p_value for i in places])
        for place, value in zip(places, values, strict=True):
            rewards[place][name] = value
    failures: list[dict[str, float]] = [{} for _ in changes]
    cells = [(i, kind) for i, found in enumerate(changes) for kind in found.failures]
    values = holm([changes[i].failures[kind].p_value for i, kind in cells])
    for (place, kind), value in zip(cells, values, strict=True):
        failures[place][kind] = value
    return [
        msgspec.structs.replace(
            found,
            p_holm=main[i],
            fixed_p_holm=fixed[i],
            reward_p_holm=rewards[i],
            failure_p_holm=failures[i],
        )
        for i, found in enumerate(changes)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction; nan stays nan and counts for nothing."""
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = largest
    return adjusted
