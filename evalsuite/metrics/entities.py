"""Named entities written as text, ``人名：李华；地名：北京``, read leniently and counted exactly.

An entity is its type and its text; where in the sentence it stands is not asked. Counts are over
multisets, as in the micro F1 of CoNLL-2003 (Tjong Kim Sang & De Meulder 2003) without the offsets.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

Entity = tuple[str, str]
"""(type, text)"""

NOTHING = "无"
_EDGES = " \t\r\f\v\u3000\u200b\ufeff。，、,.!！*`\"'“”‘’"


def parse(text: str, types: Sequence[str]) -> list[Entity] | None:
    """The entities that an answer names, in its order.

    Statements are separated by ``；``, ``;`` or a line end. One counts when it holds a known type
    followed by a colon, so bullets, numbering and bold type around the type do no harm, and
    everything else (explanations, unknown types) is passed over. ``无`` or nothing after the colon
    names no entity.

    Returns:
        None when the answer states nothing at all: neither a type with its colon, nor ``无``.
    """
    statement = re.compile(rf"({'|'.join(map(re.escape, types))})[*`\s”’\"']{{0,8}}[：:](.*)", re.S)
    found: list[Entity] = []
    stated = False
    for piece in re.split(r"[；;\n]", text):
        if match := statement.search(piece):
            stated = True
            value = clean(match[2])
            if value not in ("", NOTHING):
                found.append((match[1], value))
        elif clean(piece) == NOTHING:
            stated = True
    return found if stated else None


def write(entities: Iterable[Entity]) -> str:
    """The canonical answer, ``人名：李华；地名：北京``, or ``无``."""
    return "；".join(f"{kind}：{text}" for kind, text in entities) or NOTHING


def counts(predicted: Iterable[Entity], gold: Iterable[Entity]) -> list[float]:
    """``[true positives, predicted, gold]`` over multisets, for the formulas of precision and F1.

    Texts are compared as :func:`clean` leaves them.
    """
    made = Counter((kind, clean(text)) for kind, text in predicted)
    due = Counter((kind, clean(text)) for kind, text in gold)
    return [float(number.total()) for number in (made & due, made, due)]


def clean(text: str) -> str:
    """An entity's text without the spaces, quotes and sentence marks around it."""
    return text.strip(_EDGES)
