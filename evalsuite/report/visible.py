"""Untrusted text made safe to show: what would act on a terminal becomes visible."""

from __future__ import annotations

import re

_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Control, direction and invisible characters and lone surrogates as symbols such as ``␛``.

    Tab and newline stay.
    """
    return _ACTING.sub(_symbol, text)


def one_line(text: str) -> str:
    """The same on one line: a name with a line end in it must not begin a line of its own."""
    return " ".join(visible(text).split())


def _symbol(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else f"⟦U+{code:04X}⟧"
