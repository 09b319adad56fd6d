"""Python code in an answer: in fences or bare, with prose before and after. Nothing is executed."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Sequence

MAX_CHARACTERS = 100_000
"""An answer is read so far."""

_FENCE = re.compile(r"^[ \t]*(```|~~~)[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*\1|\Z)", re.S | re.M)
_PYTHON = ("", "python", "py", "python3", "python2")
_BEGINNING = re.compile(r"^(?:(?:async )?def |class |import |from \S+ import |@)", re.M)
_STARTS, _CUTS = 20, 50
_Definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def code_in(answer: str, entry: str = "") -> str | None:
    """The code of an answer that defines ``entry``, or any where no name is asked for; else None.

    Of several fenced blocks the last that defines it is taken, as a correction comes last, with the
    imports and definitions of the blocks before it that it lacks. Without a fence, the longest run
    of lines that is Python, from the first line that begins like it.
    """
    text = _after_thought(answer[:MAX_CHARACTERS])
    found = fenced(text)
    if not found:
        return _bare(text, entry)
    trees = [(block, tree) for block in found if (tree := _parsed(block)) is not None]
    wanted = [at for at, (_, tree) in enumerate(trees) if not entry or entry in names(tree)]
    if not wanted:
        return None
    block, tree = trees[wanted[-1]]
    own = names(tree)
    parts: list[str] = []
    for earlier, its_tree in trees[: wanted[-1]]:
        parts += definitions(earlier, its_tree, without=own)
    return "\n".join([*dict.fromkeys(parts), block])


def cut(text: str, ends: Sequence[str]) -> str:
    """Text up to where the first of these begins, as an engine stops there."""
    return text[: min((at for end in ends if (at := text.find(end)) >= 0), default=len(text))]


def fenced(text: str) -> list[str]:
    """The fenced blocks that are Python or do not say what they are; the last may lack its end."""
    blocks = _FENCE.findall(text)
    return [textwrap.dedent(body) for _, tag, body in blocks if tag.lower() in _PYTHON]


def preamble(prompt: str, entry: str, code: str) -> str:
    """Imports and definitions of a prompt, other than ``entry``'s, that code does not make itself.

    The prompt ends in the head of a function and its docstring.
    """
    tree, its_own = _parsed(prompt), _parsed(code)
    if tree is None:
        return ""
    lacking = definitions(prompt, tree, without={entry} | (names(its_own) if its_own else set()))
    return "".join(part + "\n" for part in lacking)


def names(tree: ast.Module) -> set[str]:
    """What a module defines or imports on its top level."""
    return {name for node in tree.body for name in _bound(node)}


def last_function(code: str) -> str:
    """The name of the last function that code defines on its top level; empty if none."""
    tree = _parsed(code)
    found = [n.name for n in tree.body if isinstance(n, _Definition)] if tree else []
    return found[-1] if found else ""


def definitions(source: str, tree: ast.Module, without: set[str]) -> list[str]:
    """The source of a module's imports, functions, classes and constants, but for those names."""
    lines = source.split("\n")
    found = []
    for node in tree.body:
        bound = _bound(node)
        if bound and not bound & without:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            found.append("\n".join(lines[first - 1 : node.end_lineno]))
    return found


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, _Definition):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()


def _after_thought(text: str) -> str:
    """What follows the end of a reasoning model's thoughts."""
    return text.rpartition("</think>")[2]


def _bare(text: str, entry: str) -> str | None:
    starts = [0, *(match.start() for match in _BEGINNING.finditer(text))]
    for start in dict.fromkeys(starts[:_STARTS]):
        code = _longest(text[start:])
        if code is None:
            continue
        tree = _parsed(code)
        if tree is not None and (entry in names(tree) if entry else names(tree)):
            return code
    return None


def _longest(text: str) -> str | None:
    """The text up to where it ceases to be Python."""
    lines = text.split("\n")
    for _ in range(_CUTS):
        fault = _fault("\n".join(lines))
        if fault is None:
            return "\n".join(lines)
        keep = min(fault - 1, len(lines) - 1)
        if keep <= 0:
            return None
        lines = lines[:keep]
    return None


def _fault(code: str) -> int | None:
    """The line of the first error, or None for none; 0 where there is no telling."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            ast.parse(code)
    except SyntaxError as fault:
        return fault.lineno or 0
    except (ValueError, RecursionError, MemoryError):
        return 0
    return None


def _parsed(code: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
