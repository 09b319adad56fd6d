"""Writing systems of numbers: Chinese numerals, full-width digits, LaTeX; all exact and bounded."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

LIMIT = 300
"""Most digits of a numeral, and greatest power of ten, that are still read as a number."""

_DIGITS = dict(zip("零一二三四五六七八九", range(10), strict=True))
_DIGITS |= dict(zip("〇壹贰叁肆伍陆柒捌玖", range(10), strict=True))
_DIGITS |= {"两": 2, "兩": 2, "貳": 2, "參": 3, "陸": 6}
_UNITS = {"亿": 10**8, "万": 10**4, "千": 1000, "百": 100, "十": 10}
_SPELLINGS = str.maketrans("億萬仟佰拾點負", "亿万千百十点负")

CHINESE_INTEGER = "[" + "".join(_DIGITS) + "十百千万亿拾佰仟萬億]{1,40}+"
CHINESE_DECIMAL = f"{CHINESE_INTEGER}(?:[点點][{''.join(_DIGITS)}]++)?"
"""Patterns of what :func:`chinese_integer` and :func:`chinese_decimal` may be able to read."""


def arabic_decimal(text: str) -> Fraction | None:
    """``1,234.5`` → 2469/2; None when it is empty or too long."""
    return Fraction(text.replace(",", "")) if 0 < len(text) <= LIMIT else None


def chinese_integer(text: str) -> int | None:
    """A Chinese integer: 十五, 两千零五, 三万二 (32000), 一万亿, 二〇二四; None if it is none.

    Neighbouring digits without a unit are read by position only from three digits on or around a
    zero, because 三四 means three or four.
    """
    text = text.translate(_SPELLINGS)
    if not 0 < len(text) <= 40:
        return None
    if all(c in _DIGITS for c in text):
        by_position = len(text) == 1 or (("零" in text or "〇" in text) or len(text) > 2)
        if not by_position or (len(text) > 1 and set(text) & set("两兩")):
            return None
        return int("".join(str(_DIGITS[c]) for c in text))
    return _units(text, list(_UNITS))


def _units(text: str, units: list[str]) -> int | None:
    """Read ``head unit tail`` with the greatest unit present, then both sides in the same way."""
    for level, unit in enumerate(units):
        if unit not in text:
            continue
        head, _, tail = text.rpartition(unit) if unit == "亿" else text.partition(unit)
        smaller = units[level + 1 :]
        size = _UNITS[unit]
        # Ten may go without its one: 十五, 一百十五.
        count = 1 if unit == "十" and not head else _units(head, smaller)
        rest = _tail(tail, size, smaller)
        return None if count is None or rest is None else count * size + rest
    return _DIGITS.get(text)


def _tail(tail: str, size: int, units: list[str]) -> int | None:
    if not tail:
        return 0
    if tail[0] in "零〇":
        return _below(_units(tail[1:], units), size)
    if len(tail) == 1 and size >= 100:  # 三万二 is 32000, 一百二 is 120
        return _DIGITS[tail] * size // 10 if tail in _DIGITS else None
    return _below(_units(tail, units), size)


def _below(value: int | None, limit: int) -> int | None:
    return value if value is not None and value < limit else None


def chinese_decimal(text: str) -> Fraction | None:
    """A Chinese integer or decimal (一点五), or plain Arabic digits; None if it is neither."""
    if text[:1].isascii():
        return arabic_decimal(text)
    whole, _, places = text.translate(_SPELLINGS).partition("点")
    integer = chinese_integer(whole)
    if integer is None or len(places) > LIMIT:
        return None
    decimals = "".join(str(_DIGITS[c]) for c in places)
    return Fraction(f"{integer}.{decimals}") if decimals else Fraction(integer)


_PLAIN = str.maketrans(
    "０１２３４５６７８９．　％＋－＝（）｛｝［］／＾＄：＊−–﹣⁄∕～",
    "0123456789. %+-=(){}[]/^$:*---//~",
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_PLAIN_STEPS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.ASCII), replacement)
    for pattern, replacement in [
        (r"\x1b\[[0-9;]{0,20}[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]", ""),  # terminal colours
        (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]*)\}", r"\1"),
        (r"\{,\}|(?<=\d)(?:\\[,!]|[\u2009\u202f])(?=\d{3}(?!\d))", ","),
        (r"\\([$%#&])", r"\1"),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\times|\\cdot", "×"),
        (r"\\div", "÷"),
        (r"\^\{?\\circ\}?", ""),
        (r"\\frac\s?\{(\d{1,300}+)\}\s?\{(\d{1,300}+)\}|\\frac\s?(\d)\s?(\d)", r" \1\3/\2\4"),
        (r"\\(?!frac|sqrt|pi|boxed|fbox)(?:[A-Za-z]{1,20}|[,;:! ])|[~\u00a0\u200b]", " "),
        (r"(?<=[A-Za-z米）)])\s?\^\s?\{?[23]\}?", ""),  # cm², 米^2
        (r"(?<=-) (?=\d{1,300}/\d)", ""),  # -\frac{3}{4}
    ]
)


def plain(text: str) -> str:
    """Half-width digits and signs, and no LaTeX around numbers: ``５．５``, ``\\frac{3}{4}\\%``."""
    # A full-width comma separates thousands only between full-width digits: 100，200 is a list.
    text = re.sub(r"(?<=[０-９])，(?=[０-９]{3}(?![０-９]))", ",", text).translate(_PLAIN)
    text = _VULGAR.sub(_vulgar, text)
    text = re.sub("[⁰¹²³⁴-⁹⁻]{1,9}", lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
    for pattern, replacement in _PLAIN_STEPS:
        text = pattern.sub(replacement, text)
    return text


def _vulgar(match: re.Match[str]) -> str:
    return " " + unicodedata.normalize("NFKC", match[0]).replace("⁄", "/")
