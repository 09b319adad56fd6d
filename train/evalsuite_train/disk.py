"""Faults of the disk, which torch, safetensors and the system each report in their own way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evalsuite_train.errors import TrainError

_TORCH = ("inline_container", "PytorchStreamWriter")
"""What torch's messages hold when a file could not be written to its end."""


def disk_fault(fault: BaseException) -> str:
    """What the disk did to cause ``fault``, such as ``no space left on device``; empty if nothing."""
    cause: BaseException | None = fault
    torch = False
    while cause is not None:
        if isinstance(cause, OSError):
            return (cause.strerror or str(cause)).lower()
        _, found, reason = str(cause).partition("I/O error: ")  # safetensors
        if found:
            return reason.partition(" (")[0].lower()
        torch = torch or any(sign in str(cause) for sign in _TORCH)
        cause = cause.__cause__ or cause.__context__
    return "it was not written to its end, as on a full disk" if torch else ""


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn a disk's fault while ``place`` is written into one message.

    Raises:
        TrainError: names ``place`` and what to do.
    """
    try:
        yield
    except TrainError:
        raise  # it has been said already
    except Exception as fault:
        reason = disk_fault(fault)
        if not reason:
            raise
        raise TrainError(
            f"cannot be written: {reason}",
            where=str(place),
            hint="make room or choose another --work; the same command goes on from what is saved",
        ) from fault
