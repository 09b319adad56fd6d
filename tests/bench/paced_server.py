"""A real OpenAI-compatible server whose delays are known: ``python paced_server.py PORT-FILE …``.

The first token of an answer comes after FIRST seconds, each further one GAP seconds later; with
``--one-at-a-time`` a request waits until the one before it is done. It counts a token a word, and
writes down what it was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import time
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


def application(options: argparse.Namespace) -> Starlette:
    turn = asyncio.Semaphore(1 if options.one_at_a_time else 10_000)
    asked: list[dict] = []

    async def completions(request: Request) -> Response:
        body = await request.json()
        asked.append({"at": time.time(), "body": body})
        Path(options.log).write_text(json.dumps(asked), encoding="utf-8")
        if options.strict and "ignore_eos" in body:
            return JSONResponse({"error": {"message": "unknown field ignore_eos"}}, 400)
        if options.fail_after and len(asked) > options.fail_after:
            key = request.headers.get("authorization", "")
            return JSONResponse({"error": {"message": f"no {key} today"}}, 500)
        return StreamingResponse(pieces(body), media_type="text/event-stream")

    async def pieces(body: dict):
        async with turn:
            await asyncio.sleep(options.first)
            for number in range(body["max_tokens"]):
                if number:
                    await asyncio.sleep(options.gap)
                yield event(
                    {"choices": [{"index": 0, "text": f" w{number}", "finish_reason": None}]}
                )
        words = len(body["prompt"].split())
        usage = {"prompt_tokens": words, "completion_tokens": body["max_tokens"], "total_tokens": 0}
        if body.get("stream_options", {}).get("include_usage"):
            yield event({"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"

    return Starlette(routes=[Route("/v1/completions", completions, methods=["POST"])])


def event(content: dict) -> str:
    common = {"id": "x", "object": "text_completion", "created": 1, "model": "paced"}
    return f"data: {json.dumps(common | content)}\n\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port_file")
    parser.add_argument("log")
    parser.add_argument("--first", type=float, default=0.05)
    parser.add_argument("--gap", type=float, default=0.02)
    parser.add_argument("--one-at-a-time", action="store_true")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--fail-after", type=int, default=0)
    options = parser.parse_args()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(application(options), log_level="error", lifespan="off")
    target = Path(options.port_file)
    scratch = target.with_suffix(".new")
    scratch.write_text(str(listener.getsockname()[1]))
    scratch.rename(target)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
