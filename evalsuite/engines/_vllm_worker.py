"""The process that vLLM runs in: ``python -m evalsuite.engines._vllm_worker``.

It reads orders from standard input and writes reports to what was its standard output; whatever vLLM
and its libraries print goes to standard error, which is a file. When nobody writes to standard input
any more, it ends, and its group of processes with it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable

from evalsuite.engines._vllm_frames import (
    FOLDER,
    Answered,
    Ask,
    Forget,
    Load,
    Loaded,
    Order,
    Stream,
    Trouble,
    receive,
    send,
)
from evalsuite.engines._vllm_trouble import first_line, kind_of

_GRACE = 5.0
"""Seconds that a clean end may take once nobody writes any more."""

_PATIENCE = 3.0
"""Seconds that other processes have to end when they are told to."""


def main() -> None:
    """Serve until the other side goes."""
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
    state = State()
    threading.Thread(target=_listen, args=(orders, state), daemon=True).start()
    try:
        _serve(orders, reports, state)
    except BrokenPipeError:
        pass
    finally:
        _leave(state)


class State:
    """What both threads know.

    Attributes:
        loaded: a checkpoint is; while one is being loaded, nothing waits for a clean end.
        broke: something did, and the log is to stay.
    """

    def __init__(self) -> None:
        self.loaded = False
        self.broke = False


def _listen(orders: queue.SimpleQueue[Order | None], state: State) -> None:
    """Pass orders on; at their end, end everything, after a little wait if anything is loaded."""
    with contextlib.suppress(Exception):
        while (order := receive(sys.stdin.buffer, Order)) is not None:
            orders.put(order)
    orders.put(None)
    if state.loaded or state.broke:
        time.sleep(_GRACE)
    _leave(state)


def _leave(state: State) -> None:
    """End what vLLM started, then this process; nobody is left to wait for them.

    Its folder goes with it, unless the log says what broke.

    Python's resource tracker, which is one of them, ends by itself, and only then: it removes the
    shared memory of the others.
    """
    with contextlib.suppress(Exception):
        import psutil

        others = [
            child
            for child in psutil.Process().children(recursive=True)
            if not any("resource_tracker" in word for word in child.cmdline())
        ]
        for child in others:
            child.terminate()
        for child in psutil.wait_procs(others, _PATIENCE)[1]:
            child.kill()
    if not state.broke:
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)
    os._exit(0)


def _serve(orders: queue.SimpleQueue[Order | None], reports: Stream, state: State) -> None:
    """Carry orders out until there are no more, or something breaks."""
    from evalsuite.engines._vllm_host import Host

    host: Host | None = None
    while True:
        idle = host is None or not host.busy
        try:
            order = orders.get(block=idle)
        except queue.Empty:
            assert host is not None
            try:
                answers = host.step()
            except Exception as fault:
                return _give_up(reports, state, fault)
            if answers:
                send(reports, Answered(tuple(answers)))
            continue
        if order is None:
            if host is not None:
                host.close()
            return None
        try:
            if isinstance(order, Load):
                state.loaded = False
                if host is not None:
                    host.close()
                host = Host(order)
                state.loaded = True
                send(reports, Loaded(host.block, host.context))
            elif host is not None and isinstance(order, Ask):
                host.waiting.extend(order.jobs)
            elif host is not None and isinstance(order, Forget):
                host.forget()
        except Exception as fault:
            given = order.given if isinstance(order, Load) else ()
            return _give_up(reports, state, fault, given)


def _give_up(
    reports: Stream, state: State, fault: BaseException, options: Iterable[str] = ()
) -> None:
    import traceback

    from evalsuite.engines._vllm_jobs import UnknownArgument

    state.broke = True
    traceback.print_exception(fault)
    if isinstance(fault, UnknownArgument):
        send(reports, Trouble("option", str(fault)))
    else:
        send(reports, Trouble(kind_of(fault, options), first_line(fault)))


if __name__ == "__main__":
    main()
