"""What every request and response of the service has to respect."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Guard:
    """Answers only to its own names, and tells browsers to run nothing but its own script.

    A name is checked because a stranger's site can point its own name at 127.0.0.1 and then read
    what a visitor's browser gets there (DNS rebinding).

    Args:
        hosts: the names, without port; None allows every one.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        host = Headers(scope=scope).get("host", "").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if self._hosts is None or name in self._hosts:
            await self._app(scope, receive, sent)
            return
        message = f"this service is not called {name!r}; start it with --host to give it a name"
        fault = {"error": {"status": 421, "message": message}}
        await JSONResponse(fault, 421)(scope, receive, sent)
