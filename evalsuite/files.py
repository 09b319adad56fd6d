"""Where files belong, and writing them so that a crash, a full disk or a second process never leaves half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from evalsuite.errors import CannotWrite


def home() -> Path:
    """Where caches and fetched data live: ``$EVALSUITE_HOME`` or ``~/.cache/evalsuite``."""
    return Path(os.environ.get("EVALSUITE_HOME") or Path.home() / ".cache" / "evalsuite")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace ``path`` as a whole: a reader sees the old file or the new one, never a part.

    Raises:
        CannotWrite: no space or no permission; the old file still stands.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename durable; a file system that cannot is left alone."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating-system error while writing ``path`` into :class:`CannotWrite`."""
    try:
        yield
    except OSError as fault:
        hints = {
            errno.ENOSPC: "free some space and start the same command again: what was done is kept",
            errno.EDQUOT: "free some quota and start the same command again: what was done is kept",
            errno.EACCES: "choose a folder that you may write to, with --out",
            errno.EPERM: "choose a folder that you may write to, with --out",
            errno.EROFS: "choose a folder that you may write to, with --out",
            errno.ENOTDIR: "a file stands where a folder is needed; choose another --out",
            errno.EEXIST: "a file stands where a folder is needed; choose another --out",
        }
        reason = (fault.strerror or str(fault)).lower()
        raise CannotWrite(
            f"cannot write: {reason}", where=str(path), hint=hints.get(fault.errno or 0, "")
        ) from fault


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def expanded(path: str | Path) -> Path:
    """The path with ``~`` replaced; as it stands where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
