"""Which rung answers better, question by question: pairwise win rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from evalsuite.metrics.metric import Array, Metric
from evalsuite.record import Interval
from evalsuite.stages.answers import Answers
from evalsuite.stages.crossed import score
from evalsuite.stages.rungs import Replicate
from evalsuite.stages.transition import Column, by_seed, reward, scores, seed_pairs
from evalsuite.stats.sufficient import Statistics

WIN_RATE = Metric("win_rate")
_TIE = 1e-9


class Win(msgspec.Struct, frozen=True, kw_only=True):
    """How often one rung beats another.

    Attributes:
        rate: (wins + ties/2) / questions, as in MT-bench (Zheng et al. 2023).
        wins, ties, losses: counted over all seeds.
    """

    rate: Interval
    wins: int
    ties: int
    losses: int


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """Win rates of each rung (row) against each other one (column).

    Attributes:
        decoding: greedy or sampled.
        measure: ``score`` of the tasks, or the name of a reward model.
        wins: row → column → how the row fares; pairs without a common question are left out.
    """

    decoding: str
    measure: str
    tasks: tuple[str, ...]
    rungs: tuple[str, ...]
    wins: dict[str, dict[str, Win]]


def find_matrix(
    decoding: str,
    measure: str,
    rungs: Sequence[str],
    answers: Mapping[str, Mapping[str, Mapping[Replicate, Answers]]],
) -> Matrix:
    """Compare every two rungs on the questions that both have answered.

    Args:
        measure: ``score``, or a reward model's name.
        answers: task → rung → replicate → answers.
    """
    column: Column = scores if measure == "score" else reward(measure)
    wins: dict[str, dict[str, Win]] = {}
    for place, row in enumerate(rungs):
        for other in rungs[place + 1 :]:
            found = _win(row, other, answers, column)
            if found is not None:
                wins.setdefault(row, {})[other] = found
                wins.setdefault(other, {})[row] = _turned(found)
    return Matrix(
        decoding=decoding,
        measure=measure,
        tasks=tuple(answers),
        rungs=tuple(rung for rung in rungs if rung in wins),
        wins=wins,
    )


def _win(
    row: str,
    other: str,
    answers: Mapping[str, Mapping[str, Mapping[Replicate, Answers]]],
    column: Column,
) -> Win | None:
    parts: dict[Replicate, list[tuple[str, Statistics]]] = {}
    for task, of in answers.items():
        for replicate, one, two in seed_pairs(of.get(row, {}), of.get(other, {})):
            a, b = column(one, two)
            if a is not None and b is not None:
                parts.setdefault(replicate, []).append((task, _outcomes(a, b)))
    tables = [(replicate, _joined(found)) for replicate, found in sorted(parts.items())]
    tables = [(replicate, table) for replicate, table in tables if table.ids]
    if not tables or not set.intersection(*(set(table.ids) for _, table in tables)):
        return None
    values = np.concatenate([table.rows[:, 0] for _, table in tables])
    return Win(
        rate=score(by_seed(tables)),
        wins=int(np.sum(values == 1)),
        ties=int(np.sum(values == 0.5)),
        losses=int(np.sum(values == 0)),
    )


def _outcomes(a: Statistics, b: Statistics) -> Statistics:
    """1 where a is better than b, ½ where they are equal, on their common samples."""
    place = {sample: i for i, sample in enumerate(b.ids)}
    kept = [i for i, sample in enumerate(a.ids) if sample in place]
    ours = a.item_scores()[kept]
    theirs = b.item_scores()[[place[a.ids[i]] for i in kept]]
    known = np.isfinite(ours) & np.isfinite(theirs)
    kept = [i for i, ok in zip(kept, known, strict=True) if ok]
    gap = ours[known] - theirs[known]
    gap = gap if a.metric.higher_is_better else -gap
    won = np.where(np.abs(gap) <= _TIE, 0.5, (gap > 0).astype(np.float64))
    rows: Array = np.stack([won, np.ones(len(won))], axis=1).reshape(-1, 2)
    ids = tuple(a.ids[i] for i in kept)
    return Statistics(WIN_RATE, ids, rows, np.zeros(len(kept), dtype=np.intp), a.cluster[kept])


def _joined(parts: Sequence[tuple[str, Statistics]]) -> Statistics:
    """The outcomes of several tasks as one table; every question counts once."""
    ids = tuple(f"{task}\n{sample}" for task, table in parts for sample in table.ids)
    rows = np.concatenate([table.rows for _, table in parts])
    clusters, offset = [], 0
    for _, table in parts:
        clusters.append(table.cluster + offset)
        offset += int(table.cluster.max(initial=-1)) + 1
    return Statistics(
        WIN_RATE, ids, rows, np.zeros(len(ids), dtype=np.intp), np.concatenate(clusters)
    )


def _turned(win: Win) -> Win:
    rate = win.rate
    turned = Interval(1 - rate.value, 1 - rate.high, 1 - rate.low, rate.n, rate.method, rate.level)
    return Win(rate=turned, wins=win.losses, ties=win.ties, losses=win.wins)
