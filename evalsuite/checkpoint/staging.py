"""A folder that appears as a whole or not at all, however many processes make it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from evalsuite.errors import BadOption
from evalsuite.files import expanded, sync_folder, writing


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``out`` when the block ends well.

    A process that is killed leaves ``.NAME.partial`` beside ``out``; the next one removes it.

    Raises:
        BadOption: ``out`` holds something already.
        CannotWrite: no space or no permission.
    """
    out = expanded(out).absolute()
    if not out.name:
        raise BadOption(
            "not a new folder's name", where=str(out), hint="name a folder that is not there"
        )
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out):
        if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
            raise BadOption(
                "there is something already", where=str(out), hint="name a folder that is not there"
            )
        with staged(out) as folder:
            yield folder


@contextlib.contextmanager
def staged(out: Path) -> Iterator[Path]:
    """``.NAME.partial`` beside ``out``, renamed to it at the end; hold :func:`locked` around it."""
    folder = out.with_name(f".{out.name}.partial")
    with writing(out):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    try:
        with writing(out):
            yield folder
            sync_folder(folder)
            folder.rename(out)
            sync_folder(out.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Wait until no other process makes ``out``. A lock dies with its process."""
    file = out.with_name(f".{out.name}.lock")
    while True:
        with writing(out):
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(file).st_ino == os.fstat(handle).st_ino:  # noqa: PTH116
                break
        os.close(handle)  # whoever held it removed the file; another process may have a new one
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(handle)
