"""A small OpenAI-compatible server as a process of its own, for tests; its faults are asked for.

    python openai_server.py PORT '{"key": "…", …}'

It answers with what a hash of the prompt says, and what a prompt holds in ``[[…]]`` makes it fail in
that way, for that prompt alone. Every answer given is a line in ``log``, written before it is sent.

Settings:
    name: the model's name, and what it says its name is: ``says``.
    key: what it wants to see as a key; nothing if empty.
    chat, completions: whether it has that endpoint.
    logprobs: whether it gives log-probabilities.
    knows: parameters beyond OpenAI's that have to be numbers; any other is ignored.
    speechless: texts that it has nothing to add to.
    tokenize: whether it has a tokenizer: 1 for the beginning, then each character's number.
    most: requests at once that it bears; more get HTTP 429.
    slow: seconds for an answer.
    die_after: answers after which it is gone, in the middle of the next.
    weights: another word, other predictions.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SETTINGS = {
    "name": "toy",
    "says": "",
    "key": "",
    "chat": True,
    "completions": True,
    "logprobs": True,
    "knows": ["top_k", "repetition_penalty", "min_p"],
    "speechless": [],
    "tokenize": False,
    "most": 10_000,
    "slow": 0.0,
    "die_after": 0,
    "weights": "",
    "log": "",
}
SAID = re.compile(r"\[\[([a-z]+)(?: (\d+))?\]\]")
lock = threading.Lock()
tries: dict[str, int] = {}
under_way = highest = answered = 0


def chances(prompt: str) -> dict[str, float]:
    """Log-probability of the letters A to D as the first token; the rest is left over."""
    raw = hashlib.sha256((SETTINGS["weights"] + prompt).encode("utf-8", "replace")).digest()
    weights = [1.0 + byte for byte in raw[:4]]
    return dict(zip("ABCD", (math.log(0.9 * w / sum(weights)) for w in weights), strict=True))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/state":
            self.reply(200, {"highest": highest, "tries": tries, "answered": answered})
        elif self.refuse_key():
            return
        elif self.path == "/v1/models":
            self.reply(
                200, {"data": [{"id": SETTINGS["name"], "owned_by": "toy"}, {"id": "other"}]}
            )
        else:
            self.reply(404, {"error": {"message": "no such page"}})

    def do_POST(self) -> None:
        global under_way, highest
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with lock:
            under_way += 1
            highest = max(highest, under_way)
            load = under_way
        try:
            if not self.refuse_key():
                self.answer(body, load)
        finally:
            with lock:
                under_way -= 1

    def refuse_key(self) -> bool:
        got = self.headers.get("authorization", "")
        if SETTINGS["key"] and got != f"Bearer {SETTINGS['key']}":
            self.reply(401, {"error": {"message": f"wrong key: {got}", "code": "invalid_api_key"}})
            return True
        return False

    def answer(self, body: dict, load: int) -> None:
        global answered
        chat = self.path == "/v1/chat/completions"
        if self.path == "/tokenize" and SETTINGS["tokenize"]:
            lead = [1] if body.get("add_special_tokens", True) else []
            return self.reply(200, {"tokens": lead + [ord(c) for c in body["prompt"]]})
        if self.path != "/v1/completions" and not chat:
            return self.reply(404, {"detail": "Not Found"})
        if not SETTINGS["chat" if chat else "completions"]:
            return self.reply(404, {"detail": "Not Found"})
        if body["model"] != SETTINGS["name"]:
            return self.reply(404, {"error": {"message": "no such model", "code": 404}})
        if not SETTINGS["logprobs"] and body.get("logprobs"):
            return self.reply(400, {"error": {"message": "logprobs are not supported"}})
        if [name for name in SETTINGS["knows"] if isinstance(body.get(name, 0), str)]:
            return self.reply(422, {"error": {"message": "not a number"}})
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        if isinstance(prompt, list):
            assert prompt[0] == 1
            prompt = "".join(map(chr, prompt[1:]))
        if load > SETTINGS["most"]:
            return self.reply(429, {"error": {"message": "too many requests"}})
        time.sleep(SETTINGS["slow"])
        with lock:
            tries[prompt] = tries.get(prompt, 0) + 1
            count = tries[prompt]
        fault = SAID.search(prompt)
        if fault and self.fail(fault[1], int(fault[2] or 1_000_000), count):
            return None
        with lock:
            answered += 1
            if SETTINGS["die_after"] and answered > SETTINGS["die_after"]:
                os._exit(1)
            if SETTINGS["log"]:
                with Path(SETTINGS["log"]).open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(prompt) + "\n")
        return self.reply(200, self.completion(body, prompt, chat, fault and fault[1]))

    def fail(self, kind: str, times: int, count: int) -> bool:
        """Fail as the prompt says, the first so many times that it comes."""
        if count > times:
            return False
        if kind == "busy":
            self.reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "1"})
        elif kind == "broken":
            self.reply(500, {"error": {"message": "\x1b[31mno"}})
        elif kind == "long":
            message = "This model's maximum context length is 8 tokens, you asked for 9"
            self.reply(400, {"error": {"message": message, "code": "context_length_exceeded"}})
        elif kind == "bad":
            self.reply(422, {"detail": "cannot do that"})
        elif kind == "torn":
            self.raw(200, b'{"choices": [{"text": "A"', "application/json")
        elif kind == "page":
            self.raw(200, b"<html>Bad gateway</html>", "text/html")
        elif kind == "empty":
            self.reply(200, {"model": SETTINGS["name"], "choices": []})
        elif kind == "shape":
            self.reply(200, {"choices": "many", "usage": 7})
        elif kind == "key":
            self.reply(400, {"error": {"message": f"bad {self.headers.get('authorization')}"}})
        elif kind == "hang":
            time.sleep(5)
            self.close_connection = True
        elif kind == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            return False
        return True

    def completion(self, body: dict, prompt: str, chat: bool, special: str | None) -> dict:
        letters = chances(prompt)
        text = f"答案是{max(letters, key=letters.get)}。"
        finish = "length" if special == "cut" else "content_filter" if special == "held" else "stop"
        if special == "stops":
            text = "one two three four five six"
        if special == "telltale":
            text = f"my key is {self.headers.get('authorization')}"
        choice: dict = {"index": 0, "finish_reason": finish}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        empty = prompt in SETTINGS["speechless"]
        top = dict(
            list(letters.items())[: body.get("top_logprobs", 0) if chat else body.get("logprobs")]
        )
        if special == "few":
            top = {"B": letters["B"], "x": -3.0}
        if empty and top:
            choice["logprobs"] = (
                {"content": []}
                if chat
                else {"tokens": [], "token_logprobs": [], "top_logprobs": []}
            )
        elif chat and top:
            entries = [{"token": token, "logprob": value} for token, value in top.items()]
            choice["logprobs"] = {"content": [{**entries[0], "top_logprobs": entries}]}
        elif top:
            if body.get("return_tokens_as_token_ids"):
                top = {f"token_id:{ord(letter)}": value for letter, value in top.items()}
            best = max(top, key=top.get)
            choice["logprobs"] = {
                "tokens": [best],
                "token_logprobs": [top[best]],
                "top_logprobs": [top],
            }
        return {
            "model": "impostor" if special == "impostor" else SETTINGS["says"] or SETTINGS["name"],
            "system_fingerprint": "fp_1",
            "choices": [choice],
            "usage": {
                "prompt_tokens": len(prompt) + bool(SETTINGS["tokenize"]),
                "completion_tokens": len(text),
                "prompt_tokens_details": {"cached_tokens": len(prompt) // 2},
            },
        }

    def reply(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        self.raw(status, json.dumps(content).encode(), "application/json", headers)

    def raw(
        self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class Toy(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    SETTINGS.update(json.loads(sys.argv[2]))
    Toy(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
