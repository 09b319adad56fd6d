"""Rules that drop what no score should have to judge: too short, too long, symbols, repetition.

After Gopher's quality and repetition rules (Rae et al. 2021, arXiv 2112.11446, appendix A1.1, table A1). Where Gopher
counts n-grams of words, Chinese has n-grams of twice as many characters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from evalsuite_train.data.language import words_of
from evalsuite_train.data.record import Dropped, Outcome, Record, Records

HEAD = 20_000  # characters whose n-grams are counted
DUPLICATE_LINES = 0.30  # Gopher: duplicate line fraction
DUPLICATE_LINE_CHARACTERS = 0.20  # Gopher: duplicate line character fraction
TOP_GRAMS = {2: 0.20, 3: 0.18, 4: 0.16}  # Gopher: share of characters in the most frequent n-gram
REPEATED_GRAMS = {5: 0.15, 8: 0.12, 10: 0.10}  # Gopher: share of characters in n-grams seen before
CHINESE = 2  # characters to a word: an n-gram of Chinese is so much longer
ANSWER = 0.5
"""Share of repeated n-grams that a reply may hold: code, lists and sums repeat themselves by nature."""

FEWEST_UNITS = 40  # words or characters; below, one repeated word is already a fifth
Units = str | tuple[str, ...]
SYMBOLS = re.compile(r"#|\.\.\.|…")
BULLET = re.compile(r"\s*(?:[-*•●■◆·]|\d+[.、)])\s")


def rules(records: Records, shortest: int, longest: int) -> Iterator[Outcome]:
    """Drop the records that break a rule; the reason is the rule's name.

    Args:
        shortest, longest: characters of a document. A conversation may be short: its reply may be one letter.
    """
    for record in records:
        broken = broken_rule(record, shortest, longest)
        yield Dropped(record, broken) if broken else record


def broken_rule(record: Record, shortest: int, longest: int) -> str | None:
    """The first rule that ``record`` breaks."""
    text = record.content
    if len(text) > longest:
        return "too long"
    if not record.conversations:
        if len(text) < shortest:
            return "too short"
        units = text_units(text, record.language)
        # Gopher: at least 80% of the words hold a letter; here, half the visible characters are letters or digits.
        visible = [c for c in text[:HEAD] if not c.isspace()]
        if sum(map(str.isalnum, visible)) < 0.5 * len(visible):
            return "few letters"
        if len(SYMBOLS.findall(text)) > max(2, 0.1 * len(units)):
            return "many symbols"
        lines = [line for line in text.split("\n") if line.strip()]
        if broken := _lines_rule(lines):
            return broken
        if record.language == "en" and len(units) > 5:
            mean = sum(map(len, units)) / len(units)
            if not 2.5 <= mean <= 12:  # Gopher: 3 to 10; dialogue and code words lie just outside
                return "strange words"
        return "repeated n-grams" if repetitive(units, scale=_scale(record)) else None
    for turn in record.conversations[1::2]:
        said = text_units(turn.value, record.language)
        if repetitive(said, scale=_scale(record), share=ANSWER):
            return "repeated n-grams"
    return None


def text_units(text: str, language: str) -> Units:
    """What repetition is counted in: characters of Chinese, words of the rest; no punctuation."""
    head = text[:HEAD]
    return re.sub(r"[\W_]+", "", head) if language == "zh" else tuple(words_of(head))


def _scale(record: Record) -> int:
    return CHINESE if record.language == "zh" else 1


def _lines_rule(lines: list[str]) -> str | None:
    if len(lines) < 4:
        return None
    if sum(bool(BULLET.match(line)) for line in lines) > 0.9 * len(lines):
        return "bullets only"
    if sum(line.rstrip().endswith(("...", "…")) for line in lines) > 0.3 * len(lines):
        return "lines cut off"
    counts = Counter(line.strip() for line in lines)
    repeated = sum(count - 1 for count in counts.values())
    characters = sum(len(line) * (count - 1) for line, count in counts.items())
    if repeated > DUPLICATE_LINES * len(lines):
        return "repeated lines"
    if characters > DUPLICATE_LINE_CHARACTERS * sum(map(len, lines)):
        return "repeated lines"
    return None


def repetitive(units: Units, *, scale: int = 1, share: float | None = None) -> bool:
    """Whether a few n-grams make up too much of a text.

    Args:
        scale: how many units are a word.
        share: instead of Gopher's shares, for n-grams seen before alone.
    """
    if len(units) < FEWEST_UNITS:
        return False
    total = sum(map(len, units))
    for size, most in TOP_GRAMS.items() if share is None else ():
        grams = Counter(_grams(units, size * scale))
        gram, count = grams.most_common(1)[0]
        if count > 2 and count * sum(map(len, gram)) > most * total:
            return True
    for size, most in REPEATED_GRAMS.items():
        seen: set[Units] = set()
        covered = bytearray(len(units))
        for start, gram in enumerate(_grams(units, size * scale)):
            if gram in seen:
                covered[start : start + len(gram)] = b"\1" * len(gram)
            seen.add(gram)
        repeated = sum(len(unit) for unit, mark in zip(units, covered, strict=True) if mark)
        if repeated > (share or most) * total:
            return True
    return False


def _grams(units: Units, size: int) -> Iterator[Units]:
    return (units[start : start + size] for start in range(len(units) - size + 1))
