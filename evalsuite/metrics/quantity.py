"""Numbers in text, as people and models write them: 1,234, 五分之三, 20%, 3.2万, 1 3/4, 1.2×10^5.

Everything is exact (:class:`fractions.Fraction`) and bounded: a numeral of more than 300 digits or
with an exponent beyond ±300 is not read, and every pattern runs in linear time on hostile text.
"""

from __future__ import annotations

import re
from collections import deque
from fractions import Fraction
from typing import NamedTuple

from evalsuite.metrics.numerals import (
    CHINESE_DECIMAL,
    CHINESE_INTEGER,
    LIMIT,
    arabic_decimal,
    chinese_decimal,
)


class Quantity(NamedTuple):
    """One number read from text.

    Attributes:
        value: what it is worth: 50% is 1/2, 3万 is 30000.
        numeral: the number before its mark: 50, 3.
        mark: ``%``, ``万``, ``million`` …; empty for a bare number.
    """

    value: Fraction
    numeral: Fraction
    mark: str = ""

    def __str__(self) -> str:
        """Normal form: ``12``, ``-0.5``, ``2/3``, ``20%``."""
        return f"{exact(self.numeral)}%" if self.mark == "%" else exact(self.value)


def exact(value: Fraction) -> str:
    """The shortest exact form: an integer, a finite decimal, or ``numerator/denominator``."""
    rest, places = value.denominator, 0
    while rest % 10 == 0:
        rest, places = rest // 10, places + 1
    for factor in (2, 5):
        while rest % factor == 0:
            rest, places = rest // factor, places + 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    if not places:
        return str(value.numerator)
    digits = str(abs(value.numerator) * 10**places // value.denominator).zfill(places + 1)
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


_FRACTION = (
    rf"(?:(?P<integer>\d{{1,40}}+|{CHINESE_INTEGER})又)?"
    rf"(?P<below>\d{{1,40}}+|{CHINESE_INTEGER})分之"
    rf"(?P<above>\d{{1,40}}+(?:\.\d{{1,40}}+)?|{CHINESE_DECIMAL})"
)
_CHINESE = re.compile(
    rf"(?P<sign>[负負-])?(?:{_FRACTION}|(?P<half>一?半)(?![径圆球年天月夜路数])"
    rf"|(?P<number>{CHINESE_DECIMAL})(?P<and_half>个半)?)(?P<percent>%)?",
    re.ASCII,
)
# Words that begin with a numeral and count nothing.
_NOT_COUNTING = re.compile(
    r"一[共起样定般些直下旦切致步边方道]|[一二三四五六]边形|三角|十分(?!之)|万一|千万[别不要]"
)


def _chinese_quantity(match: re.Match[str]) -> Quantity | None:
    sign = -1 if match["sign"] else 1
    if match["half"]:
        return Quantity(Fraction(sign, 2), Fraction(sign, 2))
    if match["below"]:
        return _chinese_fraction(match, sign)
    value = chinese_decimal(match["number"])
    if value is None:
        return None
    value = sign * (value + Fraction(1, 2) if match["and_half"] else value)
    return Quantity(value / 100, value, "%") if match["percent"] else Quantity(value, value)


def _chinese_fraction(match: re.Match[str], sign: int) -> Quantity | None:
    """三分之二, 百分之二十 (20%), 一又二分之一; a bare 百 or 千 counts only here (百分之百)."""
    bare = {"百": Fraction(100), "千": Fraction(1000), "万": Fraction(10**4)}
    below = bare.get(match["below"]) or chinese_decimal(match["below"])
    above = bare.get(match["above"]) or chinese_decimal(match["above"])
    whole = chinese_decimal(match["integer"]) if match["integer"] else Fraction(0)
    if above is None or not below or whole is None:
        return None
    if below == 100 and not whole:
        return Quantity(sign * above / 100, sign * above, "%")
    value = sign * (whole + above / below)
    return Quantity(value, value)


_SCALES = {
    "%": Fraction(1, 100),
    "百": Fraction(100),
    "千": Fraction(1000),
    "万": Fraction(10**4),
    "亿": Fraction(10**8),
    "万亿": Fraction(10**12),
    "thousand": Fraction(1000),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
}

_NUMERAL = r"(?:\d{1,3}(?:,\d{2,3}(?=,\d))*+,\d{3}(?!\d)|\d++)(?:\.\d++)?|\.\d++"
_QUANTITY = re.compile(
    rf"""
    (?<![A-Za-z_^0-9]) (?<!\^\{{)                  # not the 2 of x2, m^2, 10^{{2}}
    (?:(?<![)\]}}%.])(?P<sign>-)|(?P<minus>负|negative\ ))?
    (?:(?:US|HK|NT|[AC])?[$¥￥€£]\ ?|(?:USD|RMB|CNY|EUR)\ ?)?
    (?P<inner>-)?
    (?:
        (?P<whole>\d++)(?:\ {{1,2}}|\ ?又\ ?)(?P<part>\d++)\ ?/\ ?(?P<of>\d++)(?!/|\.\d)
      | (?P<number>{_NUMERAL})
        (?:\ ?/\ ?(?P<under>\d++)(?!/|\.\d)
          |[eE](?P<exponent>[-+]?\d++)(?![A-Za-z])
          |\ ?[×xX*·]\ ?10\ ?(?:\^|\*\*)\ ?\{{?(?P<power>[-+]?\d++)\}}?
        )?
    )
    (?:\ ?(?P<mark>%|per\ ?cent\b|万亿|[亿万]|百(?!分)|千(?![克米瓦卡赫帕焦伏安升字周])
       |thousand\b|million\b|billion\b|trillion\b))?
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_ANY = re.compile(rf"{_FRACTION}|(?:{_QUANTITY.pattern})", re.VERBOSE | re.IGNORECASE | re.ASCII)


def _arabic_quantity(match: re.Match[str]) -> Quantity | None:
    value = _mixed(match) if match["whole"] else _scientific(match)
    if value is None:
        return None
    if match["sign"] or match["minus"] or match["inner"]:
        value = -value
    mark = re.sub("per ?cent", "%", (match["mark"] or "").lower())
    return Quantity(value * _SCALES.get(mark, 1), value, mark)


def _mixed(match: re.Match[str]) -> Fraction | None:
    whole, part, of = (arabic_decimal(match[name]) for name in ("whole", "part", "of"))
    return whole + part / of if whole is not None and part is not None and of else None


def _scientific(match: re.Match[str]) -> Fraction | None:
    value = arabic_decimal(match["number"])
    exponent = match["exponent"] or match["power"] or "0"
    if value is None or len(exponent) > 5 or abs(int(exponent)) > LIMIT:
        return None
    if match["under"]:
        under = arabic_decimal(match["under"])
        return value / under if under else None
    return value * Fraction(10) ** int(exponent)


def quantity_at(text: str, start: int = 0) -> tuple[Quantity, int] | None:
    """The number that begins at ``start``, and where it ends.

    Args:
        text: in the form that :func:`evalsuite.metrics.numerals.plain` gives it.
    """
    chinese = None if _NOT_COUNTING.match(text, start) else _CHINESE.match(text, start)
    if not (chinese and chinese["below"]) and (match := _QUANTITY.match(text, start)):
        first = _arabic_quantity(match)
        return _compound(text, first, match.end()) if first else None
    found = _chinese_quantity(chinese) if chinese else None
    return (found, chinese.end()) if chinese and found else None


def _compound(text: str, first: Quantity, end: int) -> tuple[Quantity, int]:
    """Join what follows a Chinese unit: 1亿2000万, 3万5000."""
    scale = _SCALES.get(first.mark, Fraction(0))
    while scale > 1 and (match := _QUANTITY.match(text, end)) and text[end].isdigit():
        low = _arabic_quantity(match)
        if low is None or low.value >= scale or low.value.denominator != 1:
            break
        value = first.value + low.value
        first, end = Quantity(value, value), match.end()
        scale = _SCALES.get(low.mark, Fraction(0))
    return first, end


def last_quantity(text: str) -> Quantity | None:
    """The last number of a text in plain form, see :func:`quantity_at`.

    Chinese numerals (other than fractions) count only where there is no Arabic one: most 一 in
    running text count nothing.
    """
    last, end = None, 0
    for match in deque(_ANY.finditer(text), maxlen=64):
        if match.start() >= end and (found := quantity_at(text, match.start())):
            last, end = found
    return last or _last_chinese(text)


def _last_chinese(text: str) -> Quantity | None:
    last = None
    for match in deque(_CHINESE.finditer(_NOT_COUNTING.sub("·", text)), maxlen=64):
        if match.string[match.start() - 1 : match.start()] not in ("第", "期", "周"):
            last = _chinese_quantity(match) or last
    return last
