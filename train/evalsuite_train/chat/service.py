"""The HTTP service: ``POST /chat``, ``POST /chat/stream`` and the page.

``/chat`` takes ``{"question": …}`` and answers with ``{"answer": …}``; ``/chat/stream`` takes the
same and sends server-sent events while the reply grows. Whatever goes wrong is JSON as well.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from evalsuite_train.chat.answer import Piece
from evalsuite_train.chat.guard import Guard
from evalsuite_train.chat.prompt import TooLong, Turn
from evalsuite_train.chat.queue import Full, Queue, Work
from evalsuite_train.chat.speaker import Speaker

MOST_BYTES = 256 * 1024
MOST_CHARACTERS = 8000
MOST_TURNS = 32
PAGE = Path(__file__).with_name("page")
FILES = {"/": "page.html", "/page.js": "page.js", "/page.css": "page.css"}


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """What a client sends; ``history`` is what was said before, oldest first."""

    question: str
    history: list[Turn] = []


def service(speaker: Speaker, *, hosts: Sequence[str] | None, waiting: int = 16) -> Starlette:
    """The application.

    Args:
        hosts: names the service may be called by in the Host header; None allows every one.
        waiting: replies that may be computed or wait at a time.
    """
    queue = Queue(waiting)

    async def chat(request: Request) -> Response:
        work = _work(await _read(request), speaker)
        text, last = "", Piece("", 0, "")
        with _place(queue):
            async with aclosing(queue.pieces(work)) as pieces:
                async for piece in pieces:
                    if await request.is_disconnected():
                        return Response(status_code=499)  # nobody reads it
                    text, last = text + piece.text, piece
        return JSONResponse({"answer": text, **_end(last, speaker)})

    async def stream(request: Request) -> Response:
        work = _work(await _read(request), speaker)
        place = ExitStack()
        place.enter_context(_place(queue))
        return _Stream(_events(queue, work, speaker), place)

    async def health(request: Request) -> Response:
        return JSONResponse(speaker.description)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        queue.close()

    return Starlette(
        routes=[
            Route("/chat", chat, methods=["POST"]),
            Route("/chat/stream", stream, methods=["POST"]),
            Route("/model", health),
            *(Route(path, _file(name)) for path, name in FILES.items()),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={HTTPException: _fault, 500: _crash},
        lifespan=lifespan,
    )


def _file(name: str) -> Any:
    async def serve(request: Request) -> Response:
        return FileResponse(PAGE / name)

    return serve


async def _read(request: Request) -> Asked:
    """The body, checked; every fault is an HTTPException with what to do."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Also keeps other sites' pages from asking through a visitor's browser.
        raise HTTPException(415, "send JSON, with Content-Type: application/json")
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                raise HTTPException(413, f"the body has more than {MOST_BYTES} bytes")
    except ClientDisconnect:
        raise HTTPException(499, "the client went away") from None
    try:
        asked = msgspec.json.decode(body, type=Asked)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise HTTPException(
            400, f'not a question, such as {{"question": "你好"}}: {fault}'
        ) from None
    asked.history = asked.history[-MOST_TURNS:]
    asked.question = asked.question.strip()
    texts = [asked.question, *(text for turn in asked.history for text in turn)]
    if not all(text.strip() for text in texts):
        raise HTTPException(400, "the question, or a turn of the history, is empty")
    if max(map(len, texts)) > MOST_CHARACTERS:
        raise HTTPException(400, f"a text has more than {MOST_CHARACTERS} characters")
    return asked


def _work(asked: Asked, speaker: Speaker) -> Work:
    try:
        return speaker.reply(asked.history, asked.question)
    except TooLong:
        raise HTTPException(400, "the question is too long for the model's context") from None


@contextmanager
def _place(queue: Queue) -> Iterator[None]:
    try:
        with queue.place():
            yield
    except Full:
        headers = {"retry-after": "5"}
        raise HTTPException(503, "too many are waiting, try again", headers) from None


class _Stream(StreamingResponse):
    """Server-sent events; the place in the queue is left when the response ends, however it ends."""

    def __init__(self, events: AsyncIterator[str], place: ExitStack) -> None:
        headers = {"x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await super().__call__(scope, receive, send)


async def _events(queue: Queue, work: Work, speaker: Speaker) -> AsyncIterator[str]:
    """Server-sent events: ``data`` with a text, at last ``done``; ``error`` if it breaks."""
    last = Piece("", 0, "")
    try:
        async with aclosing(queue.pieces(work)) as pieces:
            async for piece in pieces:
                last = piece
                if piece.text:
                    yield f"data: {json.dumps({'text': piece.text})}\n\n"
        yield f"event: done\ndata: {json.dumps(_end(last, speaker))}\n\n"
    except Exception:
        logging.getLogger(__name__).exception("a reply broke off")
        yield f"event: error\ndata: {json.dumps(_message(500, 'the model failed'))}\n\n"


def _end(last: Piece, speaker: Speaker) -> dict[str, Any]:
    return {"finish_reason": last.finish, "tokens": last.tokens, "model": speaker.name}


def _message(status: int, message: str) -> dict[str, Any]:
    return {"error": {"status": status, "message": message}}


async def _fault(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    return JSONResponse(
        _message(fault.status_code, fault.detail), fault.status_code, headers=fault.headers
    )


async def _crash(request: Request, fault: Exception) -> Response:
    return JSONResponse(_message(500, "the model failed; see the service's own output"), 500)
