"""Plain texts from files of any of the formats, for stages that need text and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evalsuite_train.data.reader import Reader
from evalsuite_train.data.record import Record
from evalsuite_train.errors import BadData


def files_of(path: Path) -> list[Path]:
    """The file itself, or the files below a folder, in order; hidden ones are left out.

    Raises:
        BadData: a folder without files.
    """
    if not path.is_dir():
        return [path]
    inside = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not inside:
        raise BadData(
            "the folder holds no files", where=str(path), hint="check the path in the recipe"
        )
    return inside


def records_of(paths: list[Path]) -> Iterator[Record]:
    """The records of all files, in order."""
    for path in paths:
        for file in files_of(path):
            yield from Reader(file)
