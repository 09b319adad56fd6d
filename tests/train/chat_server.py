"""A real chat server for tests, a speaker that takes its time, and a plain HTTP client."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time

import uvicorn
from evalsuite_train.chat.answer import Piece
from evalsuite_train.chat.service import service


@contextlib.contextmanager
def running(speaker, routes=(), **settings):
    """A real server on a free port of 127.0.0.1; gives the port."""
    app = service(speaker, hosts=("127.0.0.1", "localhost"), **settings)
    app.router.routes[:0] = routes
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def call(port, path="/chat", body=None, headers=None, method="POST"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    sent = {"content-type": "application/json"} if headers is None else headers
    connection.request(method, path, data, sent)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def events(content):
    found = []
    for part in content.decode().split("\n\n")[:-1]:
        name = re.search("^event: (.*)$", part, re.M)
        found.append(
            (name[1] if name else "message", json.loads(re.search("^data: (.*)$", part, re.M)[1]))
        )
    return found


class Slow:
    """A speaker whose replies take their time, to be seen waiting and being cancelled."""

    name = "slow"
    description: dict = {"model": "slow"}  # noqa: RUF012

    def __init__(self, pieces=1, seconds=0.01, fails=False):
        self.pieces, self.seconds, self.fails = pieces, seconds, fails
        self.busy = self.most_busy = 0
        self.order, self.ended, self.spoken = [], [], 0

    def reply(self, history, question):
        def work(cancelled):
            self.order.append(question)
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            try:
                for number in range(1, self.pieces + 1):
                    if cancelled.is_set():
                        return
                    time.sleep(self.seconds)
                    if self.fails:
                        raise RuntimeError("secret path /home/x")
                    self.spoken += 1
                    yield Piece(f"{question} ", number, "stop" if number == self.pieces else "")
            finally:
                self.busy -= 1
                self.ended.append(question)

        return work
