"""Starts a real server on this machine, and ends it with everything that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.request

import pytest


@contextlib.contextmanager
def serving(command, port, log, *, ready="/health", **environment):
    """The address of what ``command`` serves on ``port``, once ``ready`` answers."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*map(str, command)],
            stdout=stream,
            stderr=stream,
            env=os.environ | environment,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=5).close()
                break
            time.sleep(0.3)
        else:
            pytest.fail(log.read_text(encoding="utf-8", errors="replace")[-3000:])
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
