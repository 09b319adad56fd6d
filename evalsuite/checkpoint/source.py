"""From what the user named, a path or a hub id, to a path on this disk."""

from __future__ import annotations

import re
from pathlib import Path

from evalsuite.checkpoint.card import CARD
from evalsuite.checkpoint.identity import COMPANIONS, WEIGHTS
from evalsuite.errors import BadCheckpoint, nearest
from evalsuite.files import expanded

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def find_source(source: str) -> Path:
    """The folder or file that ``source`` names; a hub id is downloaded.

    Raises:
        BadCheckpoint: nothing there; the nearest name is in the hint.
    """
    path = expanded(source)
    if path.exists():
        return path
    if not is_hub_id(source) or path.parent.is_dir():
        raise _missing(source, path)
    return _from_hub(source)


def is_hub_id(source: str) -> bool:
    """Whether it has the form ``org/name`` or ``org/name@revision``."""
    return not source.startswith((".", "/", "~")) and _HUB_ID.fullmatch(source) is not None


def _missing(source: str, path: Path) -> BadCheckpoint:
    siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    near = nearest(path.name, siblings)
    hint = f"did you mean {str(path.parent / near)!r}?" if near else "check the path, or org/name"
    return BadCheckpoint("no such checkpoint", where=source, hint=hint)


def _from_hub(source: str) -> Path:
    name, _, revision = source.partition("@")
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name, revision=revision or None, allow_patterns=[*WEIGHTS, *COMPANIONS, CARD]
        )
    except Exception as fault:
        reason = f"{type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else ''}"
        raise BadCheckpoint(
            f"no such folder, and the hub does not give it: {reason}",
            where=source,
            hint="check the path or the hub id, and HF_TOKEN for private ones",
        ) from None
    return Path(folder)
