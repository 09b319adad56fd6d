"""Gates between the stages: nothing is built on a stage that has not reached its bar.

A stage writes what it measured to ``gate.json``, into its checkpoint and beside it::

    {"stage": "sft", "training": {"arithmetic": 0.83, "safety": 0.97}, …}
    {"stage": "rm", "bar": 0.85, "tasks": {"arithmetic": 0.91, "safety": 0.99}, …}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evalsuite_train.errors import GateClosed, TrainError

GATE = "gate.json"
MEASURED = ("tasks", "training")
"""Where a gate's file keeps task → accuracy: a reward model's on pairs, or SFT's on its training split."""


def read_gate(checkpoint: Path) -> dict[str, float]:
    """Task → what the stage that wrote ``checkpoint`` measured of it.

    Raises:
        GateClosed: it measured nothing, or the file is damaged.
    """
    for file in (checkpoint / GATE, checkpoint.parent / GATE):
        if file.is_file():
            break
    else:
        raise GateClosed(
            "it was never measured",
            where=str(checkpoint),
            hint=f"run its stage, which writes {GATE}, or set guards: false and label the result",
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        tasks = next(content[key] for key in MEASURED if key in content)
        return {str(task): float(value) for task, value in tasks.items()}
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise GateClosed("not a gate's file", where=str(file), hint="run the stage again") from None


def check_gate(
    checkpoint: Path, bar: float, tasks: Iterable[str], *, what: str
) -> dict[str, float]:
    """Return what was measured if every task reached ``bar``.

    Args:
        tasks: those that the next stage builds on.
        what: the quantity, for the message, such as ``accuracy on the training split``.

    Raises:
        GateClosed: a task is below the bar or was not measured; names each with value and bar.
    """
    measured = read_gate(checkpoint)
    wanted = sorted(set(tasks))
    # Not >=, so that NaN is below every bar.
    below = [task for task in wanted if not measured.get(task, 0.0) >= bar]
    if below:
        values = ", ".join(
            f"{task} {measured[task]:.3f}" if task in measured else f"{task} not measured"
            for task in below
        )
        raise GateClosed(
            f"{what} is below {bar:g}: {values}",
            where=str(checkpoint),
            hint="train that stage longer or on more data of these tasks, or leave them out with `tasks`",
        )
    return measured


def check_settings(state: dict[str, Any], settings: dict[str, Any], out: Path) -> None:
    """Refuse to go on from a saved state (its key ``settings``) under other settings.

    Raises:
        TrainError: names the settings that differ.
    """
    saved = state["settings"]
    changed = sorted(key for key in settings | saved if settings.get(key) != saved.get(key))
    if changed:
        raise TrainError(
            "an unfinished training stands here, with other settings: "
            + ", ".join(f"{k} {saved.get(k)!r} (now {settings.get(k)!r})" for k in changed),
            where=str(out / "state.pt"),
            hint="restore these settings to go on, or remove the file to start again",
        )
