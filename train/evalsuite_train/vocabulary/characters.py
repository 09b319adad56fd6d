"""Which characters to add: from a list, or those that a text uses often."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from evalsuite_train.errors import BadData


def from_list(path: Path) -> list[str]:
    """The characters of a list file, in its order, each once.

    A line holds one character, several, or the columns of a code table
    (``U+4E00<TAB>一<TAB>yī``); ``#`` starts a comment.

    Raises:
        BadData: no such file, no UTF-8, a line without a Han character or punctuation, or none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise BadData(f"cannot read the list of characters: {reason}", where=str(path)) from fault
    except UnicodeDecodeError as fault:
        raise BadData(f"not UTF-8 at byte {fault.start}", where=str(path)) from fault
    found: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        content = line.split("#")[0].strip()
        if not content:
            continue
        columns = content.split("\t")
        cell = columns[1] if len(columns) > 1 and columns[0].startswith("U+") else content
        characters = [c for c in cell if not c.isspace()]
        bad = next((c for c in characters if not chinese(c)), None)
        if bad is not None or not characters:
            raise BadData(
                f"{bad or cell!r} is no Chinese character",
                where=f"{path}:{number}",
                hint="write the characters alone, or as U+4E00<TAB>一",
            )
        found.update(dict.fromkeys(characters))
    if not found:
        raise BadData("the list of characters is empty", where=str(path))
    return list(found)


def from_texts(texts: Iterable[str], minimum: int) -> list[str]:
    """The Chinese characters that occur at least ``minimum`` times, the most frequent first."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(filter(chinese, text))
    kept = [(-count, character) for character, count in counts.items() if count >= minimum]
    return [character for _, character in sorted(kept)]


def chinese(character: str) -> bool:
    """A Han character, or punctuation of the kind that Chinese text uses."""
    code = ord(character)
    return (
        0x4E00 <= code <= 0x9FFF  # CJK Unified Ideographs
        or 0x3400 <= code <= 0x4DBF  # Extension A
        or 0x20000 <= code <= 0x323AF  # Extensions B to H
        or code == 0x3007  # 〇
        or 0x3001 <= code <= 0x301F  # 、。《》「」
        or 0xFF01 <= code <= 0xFF65
        or (0x2010 <= code <= 0x2027 and unicodedata.category(character)[0] == "P")
    )
