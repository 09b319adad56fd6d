"""trl's own saved states: which of them is whole, and whether they are of this training."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from evalsuite_train.errors import TrainError
from evalsuite_train.files import write_whole
from evalsuite_train.processes import leads

STATE = "state-trl"
"""trl's states, in the section's folder until the stage has finished."""

_SETTINGS = "settings.json"
_WRITTEN_LAST = "trainer_state.json"


class TrlStates:
    """The folder of states of one training.

    transformers writes a state file by file into its final place, so a kill or a full disk leaves a
    torn one, which it would then fail to load.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def claim(self, settings: dict[str, Any]) -> None:
        """Note whose states these are.

        What stands there without a state of trl, a first look or an alarm, is removed where it is of
        other settings: there is no training to lose.

        Raises:
            TrainError: they are of other settings; names those.
        """
        file = self.folder / _SETTINGS
        ours, theirs = json.loads(json.dumps(settings)), _read(file)
        keys = sorted(ours.keys() | theirs.keys())
        changed = [k for k in keys if ours.get(k) != theirs.get(k)]
        if changed and any(self.folder.glob("checkpoint-*")):
            raise TrainError(
                "an unfinished training stands here, with other settings: "
                + ", ".join(f"{k} {theirs.get(k)!r} (now {ours.get(k)!r})" for k in changed),
                where=str(self.folder),
                hint="restore these settings to go on, or remove this folder to start again",
            )
        if changed and leads():
            self.remove()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(ours, indent=2) + "\n")

    def last(self) -> str | None:
        """The newest whole state, as transformers wants it; torn ones are removed, with a message."""
        found = sorted(self.folder.glob("checkpoint-*"), key=_step, reverse=True)
        for folder in found:
            if fault := _fault(folder):
                print(
                    f"{folder} is not whole ({fault}): looking for the state before it", flush=True
                )
                shutil.rmtree(folder, ignore_errors=True)
            else:
                return str(folder)
        return None

    def remove(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _step(folder: Path) -> int:
    found = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(found[1]) if found else -1


def _fault(folder: Path) -> str:
    """What is wrong with a state; empty for a whole one."""
    if not _read(folder / _WRITTEN_LAST):
        return f"no {_WRITTEN_LAST}"
    for file in sorted(folder.iterdir()):
        try:
            if file.suffix == ".safetensors":
                with safe_open(file, framework="pt") as tensors:
                    tensors.keys()
            elif file.suffix in (".pt", ".pth", ".bin"):
                with zipfile.ZipFile(file) as archive:
                    if damaged := archive.testzip():
                        return f"{file.name}: {damaged}"
        except (SafetensorError, zipfile.BadZipFile, OSError) as fault:
            return f"{file.name}: {fault}"
    return ""


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
