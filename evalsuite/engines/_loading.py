"""Something that takes long to load, loaded while whoever needs it does other things."""

from __future__ import annotations

import atexit
import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_PATIENCE = 5.0
"""Seconds that :meth:`Loading.stop` waits for the thread to end."""

_AGAIN = 0.25
"""Seconds until it is told once more."""

_latest: threading.Event | None = None
"""Set when whatever was to be loaded last has been, or was given up."""


class Loading(Generic[T]):
    """A value that a thread of its own makes.

    One is made at a time: while transformers builds a model, it changes torch's default dtype and its
    initialisers, which belong to the process and not to a thread.

    A thread that comes back from C++ while the interpreter ends takes the process down with it. So who
    has no use for the value any more should :meth:`stop` it; whatever still loads at exit is stopped then.

    Args:
        load: makes the value, in the thread.
    """

    def __init__(self, load: Callable[[], T]) -> None:
        global _latest
        self._value: T
        self._fault: BaseException | None = None
        self._stopped = False
        before, self._ended = _latest, threading.Event()
        _latest = self._ended
        self._thread = threading.Thread(
            target=self._run, args=(load, before), name="loading", daemon=True
        )
        _under_way.add(self)
        self._thread.start()

    @classmethod
    def of(cls, value: T) -> Loading[T]:
        """One that is done, without a thread."""
        loading = cls.__new__(cls)
        loading._value, loading._fault, loading._stopped = value, None, False
        loading._ended = threading.Event()
        loading._ended.set()
        return loading

    @property
    def done(self) -> bool:
        """Whether the value is there."""
        return self._ended.is_set() and self._fault is None

    def result(self) -> T:
        """Wait for the value. Ctrl-C ends the waiting.

        Raises:
            BaseException: whatever ``load`` raised.
        """
        self._ended.wait()  # a join() that is interrupted takes the thread for ended (Python 3.11)
        if self._fault is not None:
            raise self._fault
        return self._value

    def stop(self) -> None:
        """Give up: the thread ends where it comes back to Python, mostly after one more tensor.

        It is told more than once, because Python drops what is raised in some places, such as a
        finaliser.
        """
        if self._stopped or self._ended.is_set():
            return
        self._stopped = True
        self._fault = _Stopped()
        ident = ctypes.c_ulong(self._thread.ident or 0)
        end = time.monotonic() + _PATIENCE
        with _unmentioned(_Stopped):
            while not self._ended.is_set() and time.monotonic() < end:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_Stopped))
                self._ended.wait(_AGAIN)

    def _run(self, load: Callable[[], T], before: threading.Event | None) -> None:
        try:
            try:
                while before is not None and not before.wait(0.05):
                    pass  # back in Python now and then, where this thread can be stopped
                self._value = load()
            except BaseException as fault:
                self._fault = fault
            finally:
                self._ended.set()
        finally:  # once more, should it have been stopped on that very line
            self._ended.set()
            _under_way.discard(self)


_under_way: set[Loading[Any]] = set()


@atexit.register
def _stop_all() -> None:
    """A thread whose owner was interrupted before it could stop it would load on, to no end."""
    for loading in list(_under_way):
        loading.stop()


@contextmanager
def _unmentioned(kind: type[BaseException]) -> Iterator[None]:
    """Exceptions of this kind that Python has to drop are not written to the terminal."""
    usual = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, kind):
            usual(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual


class _Stopped(SystemExit):
    """Raised in a thread that is to end; of this kind of exception, threading says nothing."""
