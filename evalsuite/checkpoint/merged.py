"""The cache of merged checkpoints: each is made once, keyed by the content of its parts.

``$EVALSUITE_HOME/merged/KEY`` is a plain Hugging Face folder. It is put in place as a whole; while
one process makes it, others wait. Removing it is always safe.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from evalsuite.checkpoint.staging import locked, staged
from evalsuite.files import home, writing

NOTE = "merged.json"
_VERSION = "1"
"""Raised when merging would give other weights than before."""


def merged_home() -> Path:
    """Where merged checkpoints live: ``merged`` under the folder of evalsuite's other caches."""
    return home() / "merged"


def merged_once(fingerprint: str, source: str, merge: Callable[[Path], None]) -> Path:
    """The merged folder of the parts that ``fingerprint`` stands for.

    Args:
        merge: writes a plain Hugging Face folder into the empty folder it is given.

    Raises:
        CannotWrite: no space or no permission.
    """
    out = merged_home() / f"{_VERSION}-{fingerprint[:40]}"
    if _is_whole(out):
        return out
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out):
        if not _is_whole(out):
            shutil.rmtree(out, ignore_errors=True)
            with staged(out) as folder:
                merge(folder)
                sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
                note = {"source": source, "fingerprint": fingerprint, "files": sizes}
                text = json.dumps(note, ensure_ascii=False, indent=2) + "\n"
                (folder / NOTE).write_text(text, encoding="utf-8", errors="backslashreplace")
    return out


def _is_whole(folder: Path) -> bool:
    """Whether every file is there in full; somebody may have tidied up."""
    try:
        sizes = json.loads((folder / NOTE).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
