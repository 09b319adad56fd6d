"""transformers without its log lines and progress bars."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager


def shared(silence: Callable[[], Callable[[], None]]) -> Callable[[], AbstractContextManager[None]]:
    """A context that several threads are in at once: a setting of the process, and not of a thread.

    Args:
        silence: called by the first that comes in; the last to leave calls what it returned.
    """
    lock = threading.Lock()
    inside = 0
    restore: Callable[[], None]

    @contextmanager
    def context() -> Iterator[None]:
        nonlocal inside, restore
        with lock:
            if not inside:
                restore = silence()
            inside += 1
        try:
            yield
        finally:
            with lock:
                inside -= 1
                if not inside:
                    restore()

    context.__doc__ = silence.__doc__
    return context


@shared
def quiet() -> Callable[[], None]:
    """Keep transformers' log lines and progress bars off the terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()

    def restore() -> None:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()

    return restore
