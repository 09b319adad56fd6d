"""Numbers as people and models write them: Arabic and Chinese numerals, percent, fractions, LaTeX.

Everything is exact (:class:`fractions.Fraction`) and bounded: a numeral of more than 300 digits or
with an exponent beyond ±300 is not read, and every pattern runs in linear time on hostile text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

LIMIT = 300
"""Most digits of a numeral, and greatest power of ten, that are still read as a number."""

_DIGITS = dict(zip("零一二三四五六七八九", range(10), strict=True))
_DIGITS |= dict(zip("〇壹贰叁肆伍陆柒捌玖", range(10), strict=True))
_DIGITS |= {"两": 2, "兩": 2, "貳": 2, "參": 3, "陸": 6}
_UNITS = {"亿": 10**8, "万": 10**4, "千": 1000, "百": 100, "十": 10}
_SPELLINGS = str.maketrans("億萬仟佰拾點負", "亿万千百十点负")


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


# ---------------------------------------------------------------- Chinese numerals


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


_CHINESE_DIGIT = "[" + "".join(_DIGITS) + "]"
_CHINESE_INTEGER = "[" + "".join(_DIGITS) + "十百千万亿拾佰仟萬億]"
_CHINESE_DECIMAL = f"{_CHINESE_INTEGER}++(?:[点點]{_CHINESE_DIGIT}++)?"
_CHINESE = re.compile(
    rf"(?P<sign>[负負])?(?:"
    rf"(?:(?P<whole>\d++|{_CHINESE_INTEGER}++)又)?"
    rf"(?P<below>\d++|{_CHINESE_INTEGER}++)分之(?P<above>\d++(?:\.\d++)?|{_CHINESE_DECIMAL})"
    rf"|(?P<number>{_CHINESE_DECIMAL})(?P<and_half>个半)?"
    rf"|(?P<half>半)(?![径圆球年天月夜路数])"
    rf")(?P<percent>%)?"
)
# Words that begin, or end, with a numeral and count nothing.
_NOT_COUNTING = re.compile(
    r"一(?=[共起样定般些直下旦切致步边方道])|[一二三四五六]边形|三角|十分(?!之)|万(?=一)|千万(?=[别不要])"
)


def chinese_decimal(text: str) -> Fraction | None:
    """A Chinese integer or decimal (一点五), or plain Arabic digits; None if it is neither."""
    if text[:1].isascii():
        return _arabic(text)
    whole, _, places = text.translate(_SPELLINGS).partition("点")
    integer = chinese_integer(whole)
    if integer is None or len(places) > LIMIT:
        return None
    decimals = "".join(str(_DIGITS[c]) for c in places)
    return Fraction(f"{integer}.{decimals}") if decimals else Fraction(integer)


def _chinese_quantity(match: re.Match[str]) -> Quantity | None:
    sign = -1 if match["sign"] else 1
    if match["half"]:
        return Quantity(Fraction(sign, 2), Fraction(sign, 2))
    if match["number"]:
        value = chinese_decimal(match["number"])
        if value is None:
            return None
        value = sign * (value + Fraction(1, 2) if match["and_half"] else value)
        return Quantity(value / 100, value, "%") if match["percent"] else Quantity(value, value)
    hundred = match["below"] in ("百", "100")
    # 百分之百: a bare 百 or 千 is a hundred or a thousand only in a fraction.
    above = Fraction(100) if match["above"] == "百" else chinese_decimal(match["above"])
    below = {"百": Fraction(100), "千": Fraction(1000), "万": Fraction(10**4)}.get(
        match["below"]
    ) or chinese_decimal(match["below"])
    whole = chinese_decimal(match["whole"]) if match["whole"] else Fraction(0)
    if above is None or not below or whole is None:
        return None
    value = sign * (whole + above / below)
    if hundred and not whole:
        return Quantity(value, sign * above, "%")
    return Quantity(value, value)


# ---------------------------------------------------------------- Arabic numerals

_SCALES = {"%": Fraction(1, 100), "千": Fraction(1000), "万": Fraction(10**4)}
_SCALES |= {"亿": Fraction(10**8), "万亿": Fraction(10**12), "thousand": Fraction(1000)}
_SCALES |= {"million": Fraction(10**6), "billion": Fraction(10**9), "trillion": Fraction(10**12)}

_NUMERAL = r"(?:\d{1,3}(?:,\d{2,3}(?=,\d))*+,\d{3}(?!\d)|\d++)(?:\.\d++)?|(?<!\d)\.\d++"
_QUANTITY = re.compile(
    rf"""
    (?<![A-Za-z_^]) (?<!\^\{{)                     # not the 2 of x2, m^2, 10^{{2}}
    (?:(?<![0-9A-Za-z)\]}}%.])(?P<sign>-)|(?P<minus>负|negative\s))?
    (?:(?:US|HK|NT|[AC])?[$¥￥€£]\s?|(?:USD|RMB|CNY|EUR)\s?)?
    (?P<inner>-)?
    (?:
        (?P<whole>\d++)(?:\ {{1,2}}|\s?又\s?)(?P<part>\d++)\s?/\s?(?P<of>\d++)(?![\d/]|\.\d)
      | (?P<number>{_NUMERAL})
        (?:\s?/\s?(?P<below>\d++)(?!/|\.\d)
          |[eE](?P<exponent>[-+]?\d++)(?![A-Za-z])
          |\s?[×xX*·]\s?10\s?(?:\^|\*\*)\s?\{{?(?P<power>[-+]?\d++)\}}?
        )?
    )
    (?:\s?(?P<mark>%|percent\b|per\ cent\b|万亿|亿|万|千(?![克米瓦卡赫帕焦伏安升字周])
       |thousand\b|million\b|billion\b|trillion\b))?
    """,
    re.VERBOSE | re.IGNORECASE,
)


def _arabic(numeral: str) -> Fraction | None:
    return Fraction(numeral.replace(",", "")) if 0 < len(numeral) <= LIMIT else None


def _arabic_quantity(match: re.Match[str]) -> Quantity | None:
    parts = [p for p in (match["whole"], match["part"], match["of"], match["below"]) if p]
    if any(len(p) > LIMIT for p in parts):
        return None
    if match["whole"]:
        if not int(match["of"]):
            return None
        value: Fraction | None = int(match["whole"]) + Fraction(
            int(match["part"]), int(match["of"])
        )
    else:
        value = _scaled(match)
    if value is None:
        return None
    if match["sign"] or match["minus"] or match["inner"]:
        value = -value
    mark = re.sub("per ?cent", "%", (match["mark"] or "").lower())
    return Quantity(value * _SCALES.get(mark, 1), value, mark)


def _scaled(match: re.Match[str]) -> Fraction | None:
    value = _arabic(match["number"])
    exponent = match["exponent"] or match["power"] or "0"
    if value is None or len(exponent) > 5 or abs(int(exponent)) > LIMIT:
        return None
    if match["below"]:
        return value / int(match["below"]) if int(match["below"]) else None
    return value * Fraction(10) ** int(exponent)


# ---------------------------------------------------------------- finding numbers in text


def quantity_at(text: str, start: int = 0) -> tuple[Quantity, int] | None:
    """The number that begins at ``start`` of plain text, and where it ends."""
    if (match := _QUANTITY.match(text, start)) and not text.startswith("分之", match.end()):
        first = _arabic_quantity(match)
        return _compound(text, first, match.end()) if first else None
    if match := _CHINESE.match(text, start):
        found = _chinese_quantity(match)
        return (found, match.end()) if found else None
    return None


def _compound(text: str, first: Quantity, end: int) -> tuple[Quantity, int]:
    """Join what follows a Chinese unit: 1亿2000万, 3万5000."""
    while first.mark in ("亿", "万", "千") and (match := _QUANTITY.match(text, end)):
        low = _arabic_quantity(match)
        if low is None or not text[end].isdigit() or low.value >= _SCALES[first.mark]:
            break
        if low.value.denominator != 1:
            break
        value = first.value + low.value
        first, end = Quantity(value, value, low.mark and first.mark), match.end()
        if not low.mark:
            break
        first = Quantity(value, value)
    return first, end


def last_quantity(text: str) -> Quantity | None:
    """The last number of plain text; Chinese numerals count only where no Arabic one is found."""
    matches = list(_QUANTITY.finditer(text))
    starts = [m.start() for m in matches] + [
        m.start() for m in re.finditer(r"\d++(?:又\d++)?分之", text)
    ]
    best: tuple[int, Quantity] | None = None
    for start in sorted(starts, reverse=True)[:50]:
        found = quantity_at(text, start)
        if found and (best is None or found[1] >= best[0]):
            best = (found[1], found[0])
        elif best is not None:
            break
    return best[1] if best else _last_chinese(text)


def _last_chinese(text: str) -> Quantity | None:
    plain = _NOT_COUNTING.sub("·", text)
    last = None
    for match in _CHINESE.finditer(plain):
        if plain[match.start() - 1 : match.start()] not in ("第", "期", "周"):
            last = _chinese_quantity(match) or last
    return last
