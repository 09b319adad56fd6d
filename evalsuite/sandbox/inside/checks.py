"""The checks' cell: calls the solution in the other cell, compares here, gives the verdict.

The verdict is a JSON object: ``outcome`` (passed, failed, out_of_memory, gone or broken),
``detail`` and ``where``. ``gone`` says that the other cell ended; how, the zygote knows.
``broken`` says that the checks themselves are at fault.
"""

from __future__ import annotations

import builtins
import importlib
import os
import symtable
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from .channel import Channel, Gone
from .values import Json, Unreadable, decode, encode

FILE = "<checks>"
PASSED, GONE = 0, 3
"""Exit codes of this cell."""

Report = Callable[[dict[str, str]], None]


class NotComparable(TypeError):
    """The checks compare an object whose ``__eq__`` is the solution's own."""


class Solution:
    """The solution as seen from here. What ends it ends the checks: no ``except`` survives it."""

    def __init__(self, channel: Channel, report: Report) -> None:
        self._channel = channel
        self._report = report
        verb, content = self._exchange(None)
        if verb == "raised":
            self._end_for(content)

    def ask(self, verb: str, *rest: Json) -> Any:
        """What the other cell answers, of built-in types or :class:`Remote`. Raises its exception."""
        answer, content = self._exchange([verb, *rest])
        if answer == "raised":
            fault = self._exception(content)
            if isinstance(fault, StopIteration) and verb != "next":
                raise RuntimeError("the solution raised StopIteration") from fault
            raise fault
        try:
            return decode(content, lambda reference: Remote(self, *reference))
        except (Unreadable, TypeError, RecursionError) as fault:
            self._end("failed", f"an answer that cannot be read ({fault})")

    def ask_object(self, verb: str, reference: int, *arguments: Any, **named: Any) -> Any:
        """The same about one of its objects."""
        items = [encode(item, _refer) for item in arguments]
        if verb != "call":
            return self.ask(verb, reference, items)
        return self.ask(
            verb, reference, items, {name: encode(item, _refer) for name, item in named.items()}
        )

    def _exchange(self, request: Json) -> tuple[str, Any]:
        try:
            if request is not None:
                self._channel.send(request)
            verb, content = self._channel.receive()
        except Gone:
            self._end("gone", "")
        except (Unreadable, ValueError, TypeError) as fault:
            self._end("failed", f"an answer that cannot be read ({fault})")
        if verb not in ("ready", "value", "raised"):
            self._end("failed", "an answer that cannot be read")
        return verb, content

    def _exception(self, content: Json) -> Exception:
        nearest, detail, where, text = self._read_exception(content)
        kind = getattr(builtins, nearest, None)
        if not (isinstance(kind, type) and issubclass(kind, Exception)) or kind is MemoryError:
            self._end_for(content)
        fault: Exception
        try:
            fault = kind(text)
        except TypeError:  # those of Unicode want five arguments
            fault = ValueError(text)
        fault.__dict__["solution"] = (detail, where)
        return fault

    def _end_for(self, content: Json) -> NoReturn:
        nearest, detail, where, _ = self._read_exception(content)
        self._end("out_of_memory" if nearest == "MemoryError" else "failed", detail, where)

    def _read_exception(self, content: Json) -> tuple[str, str, str, str]:
        try:
            nearest, name, text, line = content
            detail = f"{name[:100]}: {text[:2_000]}" if text else name[:100]
            where = "solution" if line is None else f"solution line {int(line)}"
            return str(nearest), detail, where, text
        except (ValueError, TypeError, ArithmeticError):
            self._end("failed", "an answer that cannot be read")

    def _end(self, outcome: str, detail: str, where: str = "solution") -> NoReturn:
        self._report({"outcome": outcome, "detail": detail, "where": where})
        os._exit(GONE if outcome == "gone" else PASSED)


class Remote:
    """An object that stays in the solution's cell. It can be called, read and iterated over; not
    compared, since it would say itself whether it is equal."""

    __slots__ = ("_reference", "_solution", "_type")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, solution: Solution, reference: int, name: str) -> None:
        self._solution = solution
        self._reference = reference
        self._type = str(name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._solution.ask_object("call", self._reference, *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._solution.ask_object("attribute", self._reference, name)

    def __getitem__(self, key: Any) -> Any:
        return self._solution.ask_object("item", self._reference, key)

    def __len__(self) -> int:
        return int(self._solution.ask_object("length", self._reference))

    def __bool__(self) -> bool:
        return self._solution.ask_object("truth", self._reference) is True

    def __iter__(self) -> Iterator[Any]:
        iterator = self._solution.ask_object("iterate", self._reference)
        return iterator if isinstance(iterator, Remote) else iter(iterator)

    def __next__(self) -> Any:
        return self._solution.ask_object("next", self._reference)

    def __str__(self) -> str:
        return str(self._solution.ask_object("text", self._reference))

    def __repr__(self) -> str:
        return str(self._solution.ask_object("shown", self._reference))

    def _refuse(self, _: object) -> NoReturn:
        raise NotComparable(f"the solution's own class {self._type!r} cannot be compared")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse


def _refer(value: Any) -> Json:
    if isinstance(value, Remote):
        return ["object", value._reference]
    raise TypeError(f"an argument of type {type(value).__name__!r} cannot be given to the solution")


def check(job: dict[str, str], channel: Channel, report: Report) -> None:
    """Run the checks of ``job`` (keys ``preamble``, ``checks``, ``entry``) and report once."""
    space: dict[str, Any] = {"__name__": "checks", "__builtins__": builtins}
    try:
        code = compile(job["checks"], FILE, "exec", dont_inherit=True)
        exec(compile(job["preamble"], "<preamble>", "exec", dont_inherit=True), space)
        names = _open_names(job["checks"])
    except BaseException as fault:
        report({"outcome": "broken", "detail": _text(fault), "where": "checks"})
        return
    try:
        solution = Solution(channel, report)
        _bind(solution, space, names, job["entry"])
        exec(code, space)
    except MemoryError as fault:
        report({"outcome": "out_of_memory", "detail": _text(fault), "where": "checks"})
    except SystemExit:
        report({"outcome": "broken", "detail": "the checks exit", "where": "checks"})
    except BaseException as fault:
        report(_failure(fault, job["checks"]))
    else:
        report({"outcome": "passed", "detail": "", "where": ""})


def _open_names(source: str) -> set[str]:
    """Global names that the checks mention."""
    tables = [symtable.symtable(source, FILE, "exec")]
    found = {name.get_name() for name in tables[0].get_symbols()}
    while tables:
        table = tables.pop()
        tables += table.get_children()
        found |= {name.get_name() for name in table.get_symbols() if name.is_global()}
    return found


def _bind(solution: Solution, space: dict[str, Any], names: set[str], entry: str) -> None:
    """Give the checks what the preamble and Python do not: modules of Python, then the solution's."""
    missing = sorted(names - set(space) - set(dir(builtins)) - {entry})
    for name in missing:
        if name in sys.stdlib_module_names:
            space[name] = importlib.import_module(name)
    wanted = [name for name in missing if name not in space]
    defined = solution.ask("defined", [*wanted, entry])
    for name in wanted:
        if name in defined:
            space[name] = solution.ask("name", name)
    if entry:
        if entry not in defined:
            raise NameError(f"the solution defines no {entry!r}")
        space[entry] = solution.ask("name", entry)


def _failure(fault: BaseException, source: str) -> dict[str, str]:
    detail, where = getattr(fault, "solution", (_text(fault), ""))
    if not where:
        trace = fault.__traceback__
        line = 0
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == FILE:
                line = trace.tb_lineno
            trace = trace.tb_next
        lines = source.splitlines()
        quoted = lines[line - 1].strip()[:200] if 0 < line <= len(lines) else ""
        where = f"checks line {line}: {quoted}" if quoted else "checks"
    return {"outcome": "failed", "detail": str(detail)[:2_000], "where": str(where)}


def _text(fault: BaseException) -> str:
    text = str(fault)[:2_000]
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__
