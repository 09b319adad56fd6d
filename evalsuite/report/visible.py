"""Untrusted text made safe to show: what would act on a terminal becomes visible."""

from __future__ import annotations

import re
import unicodedata

_SUSPECT = re.compile(r"[^\w \t\n!-~]")
_ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"
"""Invisible, but part of emoji and of some scripts; they only join their neighbours."""


def visible(text: str) -> str:
    """Control, direction and invisible characters and lone surrogates as symbols such as ``␛``.

    Tab and newline stay.
    """
    return _SUSPECT.sub(_symbol, text)


def one_line(text: str) -> str:
    """The same on one line: a name with a line end in it must not begin a line of its own."""
    return " ".join(visible(text).split())


def _symbol(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    ignored = 0x2060 <= code <= 0x206F or 0xE0000 <= code <= 0xE007F
    acts = ignored or unicodedata.category(character) in _ACTING
    if not acts or character in _JOINERS:
        return character
    return chr(0x2400 + code) if code < 0x20 else f"⟦U+{code:04X}⟧"
