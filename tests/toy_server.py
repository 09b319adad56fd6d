"""Starting the process of ``openai_server.py`` and asking it what it saw."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from free_port import free_port

from evalsuite.engines._server import Patience
from evalsuite.engines._serving import ServerOptions, probe_server, template_name
from evalsuite.engines.openai import OpenAIEngine

HASTY = Patience(attempts=4, first=0.02, most=0.1, seconds=2.0)


class Toy:
    """A running server.

    Attributes:
        url: its ``/v1``.
    """

    def __init__(self, port: int = 0, **settings: Any) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        program = str(Path(__file__).with_name("openai_server.py"))
        command = [sys.executable, program, str(self.port), json.dumps(settings)]
        self._process = subprocess.Popen(command)
        while self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise RuntimeError("the server did not start")

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/state", timeout=10) as answer:
            return json.load(answer)

    def tries(self, prompt: str) -> int:
        return self.state()["tries"].get(prompt, 0)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def options(self, **changes: Any) -> ServerOptions:
        return ServerOptions(**{"base_url": self.url, "patience": HASTY} | changes)

    def engine(self, template: str = "auto", **changes: Any) -> OpenAIEngine:
        options = self.options(**changes)
        abilities = probe_server("toy", options)
        return OpenAIEngine(
            "toy",
            options,
            abilities,
            template=template_name(abilities, template),
            fingerprint="f" * 64,
        )


@contextlib.contextmanager
def toy(**settings: Any) -> Iterator[Toy]:
    server = Toy(**settings)
    try:
        yield server
    finally:
        server.kill()
