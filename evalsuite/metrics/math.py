"""The answer to a word problem: found in free text by a cascade, compared exactly.

*Strict* takes only the format that the task declares. *Lenient* falls through: that same place,
``\\boxed{}``, the last ``####`` or 答案/answer cue, the last number in the text. Two answers are
equal when they are the same exact number; anything that is not a plain number (``2\\sqrt{3}``,
``3+4``) is left to math-verify, and only in a form too small to keep sympy busy: no timer is
needed, so scoring works in any thread.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from evalsuite.metrics.numerals import plain
from evalsuite.metrics.quantity import Quantity, last_quantity, quantity_at

WINDOW = 32_768
"""Of a longer text, only this many characters at each end are read."""
CLAUSE = 200
"""Most characters that are read after a cue or inside a box."""


class Answer(NamedTuple):
    """What was understood: a number, or else an expression for math-verify."""

    text: str
    quantity: Quantity | None = None


class Found(NamedTuple):
    """The answers found in one output; None where there is none."""

    strict: Answer | None
    lenient: Answer | None


def find_answer(text: str, declared: re.Pattern[str]) -> Found:
    """Look for the answer in a model's output.

    Args:
        text: the output; untrusted.
        declared: the format that the task asks for; its group 1 begins at the answer. The first
            match counts, as in lm-eval: what follows a declared answer is a run-on.
    """
    if len(text) > 2 * WINDOW:
        text = f"{text[:WINDOW]}\n{text[-WINDOW:]}"
    match = declared.search(text)
    strict = _number(match[1]) if match else None
    place = text[match.start(1) : match.start(1) + CLAUSE] if match else ""
    simple = plain(text)
    lenient = _clause(plain(place)) or _boxed(simple) or _after_cue(simple)
    return Found(strict, lenient or _answer(last_quantity(simple)) or strict)


def read_answer(text: str) -> Answer | None:
    """Read a text that is nothing but an answer, such as a reference: ``2,125``, ``12%``, ``3/4``."""
    return _clause(plain(text[:CLAUSE]))


def equal(answer: Answer | None, reference: Answer, question: str = "") -> bool:
    """Whether the answer is right.

    A percent sign or a scale counts: 50% is 0.5 and 3万 is 30000. But where the question itself
    names the mark ("what percent …", "多少万平方米"), an answer with it and a reference without
    it, or the other way round, are equal on the bare numeral: 25% and 25, 44万 and 44.
    """
    if answer is None:
        return False
    mine, due = answer.quantity, reference.quantity
    if mine is None or due is None:
        return _verify(answer.text, reference.text)
    if mine.value == due.value:
        return True
    marks = {mine.mark, due.mark} - {""}
    return mine.numeral == due.numeral and len(marks) == 1 and _asked(marks.pop(), question)


def _asked(mark: str, question: str) -> bool:
    pattern = "%|％|per ?cent|百分" if mark == "%" else re.escape(mark)
    return re.search(pattern, question, re.IGNORECASE) is not None


# ---------------------------------------------------------------- the cascade

_CUE = re.compile(
    r"\#{4,}|答案\**(?:应该|应当|应)?(?:是|为|等于|:|=)|(?<![解回问作应])答:"
    r"|\banswer\**(?:\ (?:is|would\ be|should\ be|equals)\b|\ ?[:=])",
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
_NOISE = re.compile(
    r"(?:[\s*_`\"'“”‘’「『【:≈=]|\\[(\[]|\$(?!\d)|是|为|等于|应该|应为|大约|约|一共|总共|共|有|即"
    r"|(?:is|are|about|approximately|equals?|exactly|only|simply|therefore|a\ total\ of)\b)*+",
    re.IGNORECASE | re.ASCII,
)
_CLAUSE_END = re.compile(r"[\n。！？；]|[.!?;](?=\s|$)")
_OPERATOR = re.compile(r"\s*(?:[-+*/×÷^·]|\\sqrt|\\frac)\s*[-\d({\\]")
_UNIT_THEN_EQUALS = re.compile(r"[^\d=]{0,10}=")
_EMPTY_LINES = re.compile(r"[\s*_:]*+")


def _number(raw: str) -> Answer | None:
    """A declared answer: one number, with currency or unit at most; commas are dropped."""
    text = plain(raw[:CLAUSE]).strip().rstrip(".,。，")
    text = text.replace(",", "") if re.fullmatch(r"-?[\d.,]+", text) else text
    found = quantity_at(text)
    if found is None or re.search(r"\d", text[found[1] :]):
        return None
    return _answer(found[0])


def _clause(text: str) -> Answer | None:
    """The answer in the clause at the start of ``text``: its first words, or what follows ``=``."""
    clause = _cut(text)
    found = quantity_at(clause) or _bracketed(clause)
    rest = clause[found[1] :] if found else clause
    calculated = found is None or _OPERATOR.match(rest) is not None
    if "=" in rest and (calculated or _UNIT_THEN_EQUALS.match(rest)):
        return _clause(clause.rpartition("=")[2])
    if calculated and (expression := _expression(clause)):
        return Answer(expression)
    return _answer(found[0] if found else last_quantity(clause))


def _cut(text: str) -> str:
    """The clause without the words, quotes and mark-up before its first number."""
    start = _NOISE.match(text)
    text = text[start.end() if start else 0 :][:CLAUSE]
    if text.startswith("$") and (closing := text.find("$", 1)) > 0:  # $7 + 5 = 12$
        text = text[1:closing]
    ending = _CLAUSE_END.search(text)
    return text[: ending.start()] if ending else text


def _bracketed(clause: str) -> tuple[Quantity, int] | None:
    """The number that follows opening brackets, unless a calculation follows it."""
    found = quantity_at(clause, len(clause) - len(clause.lstrip("([{【 ")))
    return None if found is None or re.search(r"[-+*/×÷^=]", clause[found[1] :]) else found


def _answer(quantity: Quantity | None) -> Answer | None:
    return Answer(str(quantity), quantity) if quantity else None


def _boxed(text: str) -> Answer | None:
    """The answer in the last ``\\boxed{…}`` or ``\\fbox{…}``."""
    at = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if at < 0:
        return None
    start = text.index("{", at) + 1
    depth = 1
    for position in range(start, min(len(text), start + CLAUSE)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return _clause(text[start:position])
    return None


def _after_cue(text: str) -> Answer | None:
    """The answer after the last cue that has one, on its own line or on the next one."""
    for cue in reversed([m.end() for m in _CUE.finditer(text)][-20:]):
        blank = _EMPTY_LINES.match(text, cue)
        start = blank.end() if blank else cue
        if answer := _clause(text[start : start + CLAUSE]):
            return answer
    return None


# ---------------------------------------------------------------- expressions

_HARMLESS = re.compile(
    r"(?:\d{1,12}+(?:\.\d{1,12}+)?(?![\d ]*\()|[-+*/×÷()·{}\s]"
    r"|\\(?:frac|sqrt|pi)|(?<=\d)\^(?:\d(?!\d)|\{-?\d{1,2}\})){1,60}+"
)


def _expression(text: str) -> str | None:
    """``text`` as LaTeX if it is an expression that sympy settles at once.

    Only numbers and elementary operations, at most 100 characters, no deep nesting (math-verify's
    parser takes 0.3 s for eight brackets), no power of anything but a short numeral.
    """
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text).strip(" *$_`.,").rstrip("\\")
    if not 0 < len(text) <= 100 or "**" in text or re.search(r"\d\s+\d|\)\s*\d", text):
        return None
    if text.count("(") > 4 or text.count("{") > 12:
        return None
    if not _HARMLESS.fullmatch(text) or not re.search(r"\d|pi", text):
        return None
    return text.replace("×", "\\times ").replace("÷", "\\div ").replace("·", "\\cdot ").strip()


def _verify(answer: str, reference: str) -> bool:
    mine, due = _parse(answer), _parse(reference)
    if not mine or not due:
        return False
    from math_verify import verify

    try:
        # No timer: it would be SIGALRM, which works only in the main thread.
        return bool(verify(list(due), list(mine), timeout_seconds=None))
    except Exception:  # whatever sympy makes of a model's expression
        return False


@lru_cache(maxsize=4096)
def _parse(latex: str) -> tuple[Any, ...]:
    import logging

    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that no timer is set
    try:
        found = parse(f"${latex}$", [LatexExtractionConfig()], parsing_timeout=None)
    except Exception:  # whatever the parser makes of a model's expression
        return ()
    return tuple(found)
