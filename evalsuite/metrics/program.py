"""Whether a written Python program is the same as a reference, without running either."""

from __future__ import annotations

import ast
import re
import warnings

MAX_CHARACTERS = 20_000
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.S | re.I)


def same_program(text: str, reference: str) -> bool:
    """Whether ``text`` parses to the syntax tree of ``reference``: layout, comments and quotes aside.

    Where the text holds a fenced block, the first block is read. Equal trees do equal things; the
    reverse does not hold, so this is a lower bound of being right.
    """
    block = _FENCE.search(text[:MAX_CHARACTERS])
    tree = _tree(block[1] if block else text[:MAX_CHARACTERS])
    return tree is not None and tree == _tree(reference)


def _tree(program: str) -> str | None:
    """The tree as text; None where it does not parse. Hostile nesting is no program either."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.dump(ast.parse(program))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
