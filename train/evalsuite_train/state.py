"""What a training needs to go on bit for bit: written whole, the one before kept until then."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from evalsuite_train.disk import disk_fault
from evalsuite_train.errors import TrainError
from evalsuite_train.files import write_whole
from evalsuite_train.processes import ALONE, Processes

NAME = "state.pt"
PREVIOUS = "state.previous.pt"
NEW = "state.new.pt"
PARTS = "state-parts"
WHOLE = "whole.json"
ZERO = "zero"
"""Of several processes: ``state-parts/step-N/RANK.pt``, and which N is whole. ``zero/``: DeepSpeed's."""


def save_state(out: Path, state: dict[str, Any], processes: Processes = ALONE) -> None:
    """Write ``state.pt``; until it is whole on the disk the state before stands untouched.

    Several processes write a file each; those of one step are the state once all are whole.

    Raises:
        TrainError: the folder or disk does not take it; the older states still stand.
    """
    if processes.size > 1:
        return _save_parts(out, state, processes)
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
        reason = disk_fault(fault) or str(fault).splitlines()[0]
        raise TrainError(
            f"cannot save the training's state: {reason.lower()}",
            where=f"{new}, step {state['step']}",
            hint="make room or choose another --work; the last whole state still stands",
        ) from fault


def load_state(out: Path, processes: Processes = ALONE) -> dict[str, Any] | None:
    """The newest whole state in ``out``; None where there is none.

    A file cut off or damaged is passed over, with a message, for the state before it.

    Raises:
        TrainError: states are there and none of them is whole.
    """
    _check_processes(out, processes)
    if processes.size > 1:
        return _load_part(out, processes)
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


def resumable(out: Path) -> bool:
    """Whether a training under ``out`` left anything to go on from."""
    return any(out.rglob("state*")) or any(out.rglob(f"{ZERO}/global_step*"))


def remove_states(out: Path) -> None:
    """Remove every state, also one that was being written."""
    for folder in (PARTS, ZERO):
        shutil.rmtree(out / folder, ignore_errors=True)
    for name in (NAME, PREVIOUS, NEW):
        if (out / name).exists():
            (out / name).unlink()


def _save_parts(out: Path, state: dict[str, Any], processes: Processes) -> None:
    folder = out / PARTS / f"step-{state['step']}"
    fault: TrainError | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{processes.rank}.pt").open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as reason:
        what = disk_fault(reason) or str(reason).splitlines()[0]
        fault = TrainError(
            f"cannot save the training's state: {what.lower()}",
            where=f"{folder}, step {state['step']}",
            hint="make room or choose another --work; the last whole state still stands",
        )
    if processes.any(fault is not None):
        raise fault or TrainError("another process could not save its state", where=str(folder))
    if processes.first:
        whole = {"step": state["step"], "processes": processes.size}
        write_whole(out / PARTS / WHOLE, json.dumps(whole))
        for old in (out / PARTS).glob("step-*"):
            if old != folder:
                shutil.rmtree(old)
    processes.wait()


def _check_processes(out: Path, processes: Processes) -> None:
    """Refuse a state that another number of processes wrote."""
    wrote = _whole(out).get("processes")
    if wrote is None and (out / NAME).is_file():
        wrote = 1
    if wrote not in (None, processes.size):
        raise TrainError(
            f"an unfinished training of {wrote} processes stands here, and these are {processes.size}",
            where=str(out),
            hint=f"start {wrote} to go on, or remove its state files to begin again",
        )


def _whole(out: Path) -> dict[str, int]:
    """Step and number of processes of the state in parts that is whole; empty where there is none."""
    file = out / PARTS / WHOLE
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {name: int(found[name]) for name in ("step", "processes")}
    except (ValueError, LookupError, TypeError, RecursionError):
        raise TrainError(
            "it does not say which state is whole",
            where=str(file),
            hint=f"remove {out / PARTS} to start this stage again from its first step",
        ) from None


def _load_part(out: Path, processes: Processes) -> dict[str, Any] | None:
    whole = _whole(out)
    if not whole:
        return None
    path = out / PARTS / f"step-{whole['step']}" / f"{processes.rank}.pt"
    try:
        _check(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as fault:
        raise TrainError(
            f"the saved state is not whole ({type(fault).__name__})",
            where=str(path),
            hint=f"remove {out / PARTS} to start this stage again from its first step",
        ) from None


def _check(path: Path) -> None:
    """Read the whole archive against its checksums, which torch.load does not."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise zipfile.BadZipFile(damaged)
