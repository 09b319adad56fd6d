"""What a training needs to go on bit for bit: written whole, the one before kept until then."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from evalsuite_train.errors import TrainError

NAME = "state.pt"
PREVIOUS = "state.previous.pt"
NEW = "state.new.pt"


def save_state(out: Path, state: dict[str, Any]) -> None:
    """Write ``state.pt``; until it is whole on the disk the state before stands untouched.

    Raises:
        TrainError: the folder or disk does not take it; the older states still stand.
    """
    new = out / NEW
    try:
        out.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if (out / NAME).is_file():
            (out / NAME).replace(out / PREVIOUS)
        new.replace(out / NAME)
    except (OSError, RuntimeError) as fault:
        if out.is_dir() and os.access(out, os.W_OK):
            new.unlink(missing_ok=True)
        reason = getattr(fault, "strerror", None) or str(fault).splitlines()[0]
        raise TrainError(
            f"cannot save the training's state: {reason.lower()}",
            where=f"{new}, step {state['step']}",
            hint="make room or choose another --work; the last whole state still stands",
        ) from fault


def load_state(out: Path) -> dict[str, Any] | None:
    """The newest whole state in ``out``; None where there is none.

    A file cut off or damaged is passed over, with a message, for the state before it.

    Raises:
        TrainError: states are there and none of them is whole.
    """
    broken = []
    for name in (NAME, PREVIOUS):
        path = out / name
        if not path.is_file():
            continue
        try:
            _check(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
            state["step"], state["position"]
        except (
            zipfile.BadZipFile,
            OSError,
            RuntimeError,
            EOFError,
            KeyError,
            TypeError,
            pickle.UnpicklingError,
        ) as fault:
            broken.append(str(path))
            print(
                f"{path} is not whole ({type(fault).__name__}): looking for the state before it",
                flush=True,
            )
            continue
        return dict(state)
    if broken:
        raise TrainError(
            "no saved state is whole",
            where=", ".join(broken),
            hint="remove these files to start this stage again from its first step",
        )
    return None


def remove_states(out: Path) -> None:
    """Remove every state, also one that was being written."""
    for name in (NAME, PREVIOUS, NEW):
        if (out / name).exists():
            (out / name).unlink()


def _check(path: Path) -> None:
    """Read the whole archive against its checksums, which torch.load does not."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise zipfile.BadZipFile(damaged)
