"""This machine outside the sandbox: something to find, and what must not change."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

import evalsuite

WATCHED = (Path(evalsuite.__file__).parent / "sandbox", Path(os.__file__).parent / "json")
CROWDED = (Path("/"), Path("/tmp"), Path("/dev/shm"), Path.home(), Path("/usr"), Path(sys.prefix))


class Host:
    """A secret file, and listeners that count who connects."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "outside"
        self.folder.mkdir()
        self.folder.chmod(0o777)
        self.secret = self.folder / "secret"
        self.secret.write_text("nobody inside reads this")
        self.secret.chmod(0o666)
        self.reached: list[str] = []
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._tcp = self._listen(socket.AF_INET, ("127.0.0.1", 0))
        self.port = self._tcp.getsockname()[1]
        with contextlib.suppress(OSError):
            self._listen(socket.AF_INET6, ("::1", self.port))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", self.port))
        self._open.append(datagrams)
        self._wait(datagrams, lambda: datagrams.recvfrom(100), "udp")
        self.unix = str(folder / "unix")
        self._listen(socket.AF_UNIX, self.unix)
        Path(self.unix).chmod(0o777)
        self.abstract = f"evalsuite-{os.getpid()}"
        self._listen(socket.AF_UNIX, "\0" + self.abstract)

    def _listen(self, family: int, address: object) -> socket.socket:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.bind(address)
        listener.listen()
        self._open.append(listener)
        self._wait(listener, lambda: self._open.append(listener.accept()[0]), str(address))
        return listener

    def _wait(self, waiting: socket.socket, step: Callable[[], object], name: str) -> None:
        def loop() -> None:
            waiting.settimeout(0.1)
            while not self._closed.is_set():
                with contextlib.suppress(TimeoutError):
                    step()
                    self.reached.append(name)

        self._threads.append(threading.Thread(target=loop, daemon=True))
        self._threads[-1].start()

    def filled_in(self, text: str) -> str:
        """``text`` with real places instead of ``@NAME@``."""
        places = {
            "SECRET": self.secret,
            "FOLDER": self.folder,
            "PORT": self.port,
            "ABSTRACT": self.abstract,
            "UNIX": self.unix,
            "HARNESS": os.getpid(),
        }
        for name, place in places.items():
            text = text.replace(f"@{name}@", str(place))
        return text

    def close(self) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join()
        for each in self._open:
            each.close()

    def state(self) -> dict[str, object]:
        """Files, environment and rights of this process, to be compared with itself."""
        return {
            "environment": dict(os.environ),
            "folder": Path.cwd(),
            "user": (os.getresuid(), os.getresgid(), os.umask(os.umask(0o22) or 0o22)),
            "name": socket.gethostname(),
            "secret": self.secret.read_text(),
            "outside": sorted(path.name for path in self.folder.iterdir()),
            "watched": {
                str(path): hashlib.sha256(path.read_bytes()).hexdigest()
                for folder in WATCHED
                for path in sorted(folder.rglob("*.py"))
            },
            "planted": [str(path) for folder in CROWDED for path in folder.glob("*planted*")],
            "cores": [
                str(path) for folder in (*CROWDED, Path.cwd()) for path in folder.glob("core*")
            ],
        }


def in_sandbox() -> Iterator[psutil.Process]:
    """Every process that a zygote is, or has started, but those of tests that run beside this one.

    Started by this process or left over by one that is gone: those of another worker of pytest-xdist
    descend from this one's parent without descending from this one.
    """
    me = psutil.Process()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "inside.zygote" in " ".join(process.cmdline()):
                above = {ancestor.pid for ancestor in process.parents()}
                if me.pid in above or me.ppid() not in above:
                    yield process
