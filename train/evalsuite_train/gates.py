"""Gates between the stages: nothing is built on a stage that has not reached its bar.

A stage writes what it measured to ``gate.json``, into its checkpoint and beside it::

    {"stage": "sft", "training": {"arithmetic": 0.83, "safety": 0.97}, …}
    {"stage": "rm", "bar": 0.85, "tasks": {"arithmetic": 0.91, "safety": 0.99}, …}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from evalsuite_train.errors import GateClosed, TrainError

GATE = "gate.json"


class _Kind(NamedTuple):
    """What a gate is of: the key of its task → accuracy, and words for messages."""

    key: str
    name: str
    measured: str


_KINDS = {
    "sft": _Kind("training", "a policy", "the parent's accuracy on its training split"),
    "rm": _Kind("tasks", "a reward model", "the reward model's pair accuracy"),
}


def read_gate(checkpoint: Path, of: Literal["sft", "rm"]) -> dict[str, float]:
    """Task → what the stage that wrote ``checkpoint`` measured of it.

    Args:
        of: what the checkpoint has to be: a policy after SFT, or a reward model.

    Raises:
        GateClosed: it measured nothing, is the other of the two, or the file is damaged.
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
        found = next(kind for kind in _KINDS.values() if kind.key in content)
        measured = {str(task): float(value) for task, value in content[found.key].items()}
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
        raise GateClosed("not a gate's file", where=str(file), hint="run the stage again") from None
    wanted = _KINDS[of]
    if found is not wanted:
        raise GateClosed(
            f"this is {found.name}, and {wanted.name} is asked for",
            where=str(checkpoint),
            hint=f"name a section of stage {of}, or its checkpoint",
        )
    return measured


def check_gate(
    checkpoint: Path, bar: float, tasks: Iterable[str], *, of: Literal["sft", "rm"]
) -> dict[str, float]:
    """Return what was measured if every task reached ``bar``.

    Args:
        tasks: those that the next stage builds on.
        of: as in :func:`read_gate`.

    Raises:
        GateClosed: a task is below the bar or was not measured; names each with value and bar.
    """
    measured = read_gate(checkpoint, of)
    wanted = sorted(set(tasks))
    # Not >=, so that NaN is below every bar.
    below = [task for task in wanted if not measured.get(task, 0.0) >= bar]
    if below:
        values = ", ".join(
            f"{task} {measured[task]:.3f}" if task in measured else f"{task} not measured"
            for task in below
        )
        raise GateClosed(
            f"{_KINDS[of].measured} is below {bar:g}: {values}",
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
