"""Files and folders that appear as a whole: an older one stands until the new one is complete."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8.

    Under ZeRO every process may write the same content: each has a temporary file of its own.
    """
    temporary = file.with_name(f"{file.name}.{os.environ.get('RANK', '0')}.new")
    temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    temporary.replace(file)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes ``folder``'s place when the block ends well.

    A process that is killed in between leaves the older folder where it was, or, in the moment in
    which the two change places, beside it as ``NAME.old``; the next one puts it back.
    """
    new, old = (folder.with_name(f"{folder.name}.{end}") for end in ("new", "old"))
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)
