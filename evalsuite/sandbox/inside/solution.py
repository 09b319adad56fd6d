"""The program's cell: runs the solution, then answers calls until it is ended.

Nothing here is trusted: the program shares this process and can change all of it. It then gives
other answers, no more; what an answer means is decided in the other cell.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
import types
from typing import Any

from .channel import Channel
from .values import Json, decode, encode

FILE = "<solution>"
_TEXT = 2_000


class Kept:
    """The solution's own objects that the checks hold a number of."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}

    def refer(self, value: Any) -> Json:
        """JSON for an object that stays here."""
        self._objects[id(value)] = value
        return ["object", [id(value), type(value).__name__[:100]]]

    def resolve(self, content: Json) -> Any:
        """The object behind it."""
        return self._objects[content]


def serve(source: str, channel: Channel) -> None:
    """Run ``source`` as a module, say so, and answer until the other end is closed."""
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    space = module.__dict__
    try:
        exec(compile(source, FILE, "exec", dont_inherit=True), space)
    except BaseException as fault:
        _flush()
        channel.send(raised(fault))
        return
    _flush()
    channel.send(["ready", None])
    kept = Kept()
    while True:
        request = channel.receive()
        try:
            answer = ["value", encode(_answer(request, space, kept), kept.refer)]
        except BaseException as fault:
            answer = raised(fault)
        _flush()
        try:
            channel.send(answer)
        except ValueError as fault:
            channel.send(raised(fault))


def _answer(request: Json, space: dict[str, Any], kept: Kept) -> Any:
    verb, *rest = request
    if verb == "name":
        return space[rest[0]]
    if verb == "defined":
        return [name for name in rest[0] if name in space]
    target = kept.resolve(rest[0])
    arguments = [decode(item, kept.resolve) for item in rest[1]]
    if verb == "call":
        named = {name: decode(item, kept.resolve) for name, item in rest[2].items()}
        return target(*arguments, **named)
    verbs: dict[str, Any] = {
        "attribute": getattr,
        "item": lambda value, key: value[key],
        "length": len,
        "truth": bool,
        "iterate": iter,
        "next": next,
        "text": str,
        "shown": repr,
    }
    return verbs[verb](target, *arguments)


def raised(fault: BaseException) -> Json:
    """An exception as JSON: the nearest built-in type, the type, its text, the solution's line."""
    kind = type(fault)
    nearest = next(t for t in kind.__mro__ if getattr(builtins, t.__name__, None) is t)
    try:
        text = str(fault)[:_TEXT]
    except BaseException:
        text = "(its text cannot be made)"
    line = fault.lineno if isinstance(fault, SyntaxError) and fault.filename == FILE else None
    trace = fault.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return ["raised", [nearest.__name__, kind.__name__[:100], str(text), line]]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
