"""From easy to hard: samples ranked by the parent model's loss, each task by itself, with replay."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalsuite_train.files import write_whole
from evalsuite_train.sft.reply_loss import reply_loss
from evalsuite_train.sft.samples import Sample


class Stage(NamedTuple):
    """What one stage learns from: its own samples, and earlier stages' that come again."""

    own: NDArray[np.int64]
    replayed: NDArray[np.int64]

    @property
    def members(self) -> NDArray[np.int64]:
        """Both, int64, shape (samples,)."""
        return np.concatenate([self.own, self.replayed])


def measure_difficulty(
    model: Any, samples: Sequence[Sample], cache: Path, key: str, **how: Any
) -> NDArray[np.float64]:
    """Mean reply loss of every sample under ``model``, in nats; shape (samples,).

    Args:
        cache: a file that keeps the losses, so that a resumed training does not measure again.
        key: names model and data; losses kept under another key are measured anew.
    """
    kept = _kept(cache, key)
    if kept is not None and kept.shape == (len(samples),):
        return kept
    loss = reply_loss(model, samples, **how).loss
    write_whole(cache, json.dumps({"key": key, "loss": loss.tolist()}))
    return loss


def _kept(cache: Path, key: str) -> NDArray[np.float64] | None:
    """The losses in the file, if they are of this key; a damaged file counts for nothing."""
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
        return np.array(content["loss"], np.float64) if content["key"] == key else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def plan_stages(
    tasks: Sequence[str], difficulty: NDArray[np.float64], stages: int, replay: float, seed: int
) -> list[Stage]:
    """Split samples into ``stages``, every task's easiest part first.

    Ranking within a task keeps a hard task from coming only at the end: each stage holds the same
    share of every task. Samples of equal difficulty stay in the data's order.

    Args:
        replay: share of a stage's samples, in [0, 1), drawn again from earlier stages, as far as
            these suffice; tasks as in the data.
    """
    names = np.array(tasks)
    place = np.zeros(len(names), np.int64)
    for task in sorted(set(tasks)):
        members = np.flatnonzero(names == task)
        order = members[np.argsort(difficulty[members], kind="stable")]
        place[order] = np.arange(len(order)) * stages // len(order)
    planned = []
    for number in range(stages):
        own, earlier = np.flatnonzero(place == number), np.flatnonzero(place < number)
        wanted = min(len(earlier), round(len(own) * replay / (1 - replay)))
        rng = np.random.default_rng([seed, number])
        planned.append(Stage(own, np.sort(rng.choice(earlier, wanted, replace=False))))
    return planned


def write_plan(
    folder: Path,
    samples: Sequence[Sample],
    difficulty: NDArray[np.float64],
    stages: Sequence[Stage],
) -> None:
    """Say what is learnt when: ``curriculum.json`` by stage and task, ``curriculum.jsonl`` by sample."""
    summary = []
    again: list[list[int]] = [[] for _ in samples]
    first = [0] * len(samples)
    for number, stage in enumerate(stages, 1):
        own, replayed = (Counter(samples[i].task for i in part) for part in stage)
        tasks = {}
        for task in sorted(own):
            losses = [difficulty[i] for i in stage.own if samples[i].task == task]
            tasks[task] = {
                "samples": own[task],
                "replayed": replayed[task],
                "easiest": round(min(losses), 4),
                "hardest": round(max(losses), 4),
            }
        summary.append({"stage": number, "tasks": tasks})
        for index in stage.own:
            first[index] = number
        for index in stage.replayed:
            again[index].append(number)
    text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / "curriculum.json", text)
    rows = [
        {
            "where": sample.where,
            "task": sample.task,
            "loss": round(float(difficulty[index]), 6),
            "stage": first[index],
            "replayed": again[index],
        }
        for index, sample in enumerate(samples)
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(folder / "curriculum.jsonl", lines)
