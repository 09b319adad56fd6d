"""Reading the chosen letter out of a written answer.

An anchored cascade, and never a guess: a letter counts only where the text states it as its answer.
Two different statements, or none, are no answer. (Evaluators that fall back on a random letter, or
on the first capital in the text, report noise as knowledge.)
"""

from __future__ import annotations

import re

LETTERS = "ABCDEFGHIJ"

_FULL_WIDTH: dict[int, int | str] = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_MARKUP: dict[int, int | str] = dict.fromkeys(
    map(ord, "*_`#~${}[]【】「」『』《》“”‘’\"'\u200b\ufeff"), ""
)
_PLAIN = {**_FULL_WIDTH, **_MARKUP, ord("。"): ".", ord("\u3000"): " "}

# Every quantifier below is bounded, so that no text takes more than linear time.
_WORDS = "because|since|as|for|which|due|given|based|from|according|in|where|so|is|and|or"
_LETTER = (
    r"\(?\s?(?P<letter>[A-Ja-j])(?![A-Za-z0-9])"
    rf"(?![ ]{{1,4}}(?!(?:{_WORDS})\b)[a-z])"  # an article or pronoun: "the answer is A good …"
    r"(?P<more>\s?\)?\s?(?:(?:[、/&+]|和|与|及|或|and\b|or\b)\s?\(?\s?[A-Ja-j](?![A-Za-z0-9])"
    r"|,\s?\(?[A-J](?=\s{0,4}(?:[.,;:、)!?]|$))))?"
)
_STATED = re.compile(
    r"(?:"
    r"答案(?:选项)?\s?(?:应该|应当|应|就|只能)?\s?(?:是|为|选)?\s?:?\s{0,4}(?:选项|选)?\s?"
    r"|(?:^|\n)答\s?:\s?"
    r"|正确的?选项\s?(?:是|为)?\s?:?\s{0,4}"
    r"|(?<!不)(?<!不能)(?<!不应)(?<!不该)(?<!不会)选择?\s?:?\s?"
    r"|\b(?i:answer\s?(?:is|would be|should be|must be)?\s?:?\s{0,4}(?:option|choice|letter)?)\s?"
    r"|\b(?i:(?:correct|right|best) (?:option|choice)(?: is)?)\s?:?\s?"
    r"|\bI (?:choose|pick|select)\s?:?\s?(?:option|choice)?\s?"
    r"|\\boxed\s?(?:\\text(?:bf)?)?\s?"
    rf"){_LETTER}"
)
_ENDS = re.compile(r"\s{0,4}(?:[.,;:、)!?]|$)", re.MULTILINE)
_ALONE = re.compile(
    r"(?:(?i:option|choice)\s|选项\s?)?\(?\s?(?P<letter>[A-Ja-j])\s?\)?(?:选?项)?\s?[.,:;、!]?"
)
_LABELLED = re.compile(r"\(?(?P<letter>[A-J])\s?[.:,、)](?!\s?\(?[A-J](?![A-Za-z]))")
_LABEL = re.compile(r"(?<![A-Za-z0-9])\(?(?P<letter>[A-J])\s?[.:、)]")
_OPTION_LINE = re.compile(r"^[ \t]{0,8}\(?(?P<letter>[A-J])\s?[.:、)].*$", re.MULTILINE)


def extract_letter(text: str, letters: str = "ABCD") -> str | None:
    """The one letter that ``text`` states as its answer; None where it states none, or several.

    The steps, of which the first that finds anything decides:

    1. a statement (``答案是B``, ``答案：B``, ``故选B``, ``The answer is (B)``, ``\\boxed{B}``), or
       a first or last line that is nothing but a letter;
    2. a text that starts with a labelled letter (``B. 北京``), and labels no other on that line.

    Full-width letters, markdown and brackets are read through; a closed ``<think>`` part is left
    out, and so is a list that only repeats the options.

    Args:
        letters: the letters that name an option; any other letter stated is not an answer.
    """
    _, closed, rest = text.rpartition("</think>")
    if not closed and "<think>" in rest:
        return None
    plain = _without_option_list(rest.translate(_PLAIN).strip())
    stated = _stated(plain)
    if not stated and _LABELLED.match(plain):
        first_line = plain.split("\n", 1)[0]
        stated = {match["letter"] for match in _LABEL.finditer(first_line)}
    return stated.pop() if len(stated) == 1 and stated <= set(letters) else None


def _stated(plain: str) -> set[str]:
    """Every letter stated as the answer; more than one for an explicit "A or B"."""
    found: set[str] = set()
    for match in _STATED.finditer(plain):
        letter = match["letter"]
        if match["more"]:
            return {"A", "B"}
        if letter.isupper() or _ENDS.match(plain, match.end()):
            found.add(letter.upper())
    lines = plain.split("\n")
    for line in (lines[0], lines[-1]):
        if alone := _ALONE.fullmatch(line.strip()):
            found.add(alone["letter"].upper())
    return found


def _without_option_list(plain: str) -> str:
    """Drop lines that label two options or more: they repeat the question, or discuss it."""
    if len({match["letter"] for match in _OPTION_LINE.finditer(plain)}) < 2:
        return plain
    return _OPTION_LINE.sub("", plain).strip()
