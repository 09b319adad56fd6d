from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evalsuite.metrics.numerals import LIMIT, chinese_decimal, chinese_integer, plain
from evalsuite.metrics.quantity import Quantity, exact, last_quantity, quantity_at

DIGITS = "零一二三四五六七八九"


def write_chinese(n: int) -> str:
    """Standard Chinese for 0 ≤ n < 10^16, by places from the left; shares nothing with the reader."""
    if n == 0:
        return "零"
    for size, unit in ((10**8, "亿"), (10**4, "万")):
        if n >= size:
            high, low = divmod(n, size)
            gap = "零" if 0 < low < size // 10 else ""
            return write_chinese(high) + unit + gap + (write_chinese(low) if low else "")
    text, gap = "", False
    for size, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = n // size % 10
        if digit:
            text += ("零" if gap and text else "") + DIGITS[digit] + unit
        gap = digit == 0
    return text


def test_the_writer_itself_writes_standard_chinese():
    known = {
        7: "七",
        15: "一十五",
        105: "一百零五",
        110: "一百一十",
        2005: "二千零五",
        30002: "三万零二",
        10_0500: "一十万零五百",
        1_0001_0000: "一亿零一万",
        10**12: "一万亿",
    }
    assert {n: write_chinese(n) for n in known} == known


@given(st.one_of(st.integers(0, 10**12), st.integers(0, 10**5)))
@example(10**12)
@example(1_0000_0001)
@example(1_2000_0000)
def test_every_integer_up_to_a_trillion_is_read_back(n):
    written = write_chinese(n)
    assert chinese_integer(written) == n
    assert chinese_integer(written.replace("二千", "两千").replace("二万", "两万")) == n
    if written.startswith("一十"):
        assert chinese_integer(written[1:]) == n
    formal = str.maketrans("一二三四五六七八九十百千万亿", "壹贰叁肆伍陆柒捌玖拾佰仟萬億")
    assert chinese_integer(written.translate(formal)) == n


@given(st.integers(0, 10**6), st.text("0123456789", min_size=1, max_size=12), st.booleans())
def test_decimals_and_signs_are_read_back(whole, places, negative):
    spoken = write_chinese(whole) + "点" + "".join(DIGITS[int(d)] for d in places)
    value = Fraction(f"{whole}.{places}")
    assert chinese_decimal(spoken) == value
    found = quantity_at(("负" if negative else "") + spoken)
    assert found is not None
    assert found[0].value == (-value if negative else value)


@given(st.integers(1, 10**4), st.integers(1, 10**4))
def test_fractions_are_read_in_chinese_and_in_figures(above, below):
    value = Fraction(above, below)
    for text in (
        f"{write_chinese(below)}分之{write_chinese(above)}",
        f"{below}分之{above}",
        f"{above}/{below}",
        f"\\frac{{{above}}}{{{below}}}",
    ):
        found = last_quantity(plain(text))
        assert found is not None, text
        assert found.value == value, text


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9
    )
)
def test_figures_are_read_with_and_without_separators(number):
    value = Fraction(number)
    for text in (
        f"{number:f}",
        f"{number:,f}",
        f"{number:f}".translate(FULL_WIDTH),
        f"${number:,f}.",
    ):
        found = last_quantity(plain(text))
        assert found is not None, text
        assert found.value == value, text
        assert Fraction(str(found)) == value, text


FULL_WIDTH = str.maketrans("0123456789.-", "０１２３４５６７８９．－")


@given(st.fractions(max_denominator=10**6))
def test_the_normal_form_keeps_the_value(value):
    assert Fraction(exact(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("十五", 15),
        ("一百十五", 115),
        ("三万二千", 32000),
        ("三万二", 32000),
        ("一百二", 120),
        ("两千零五", 2005),
        ("二〇二四", 2024),
        ("一千零五十", 1050),
        ("三亿两千万", 320_000_000),
        ("两三", None),
        ("三四", None),
        ("百", None),
        ("万亿亿", None),
        ("一百一百", None),
        ("十二十", None),
        ("零", 0),
        ("", None),
        ("一" * 41, None),
    ],
)
def test_chinese_integers(text, value):
    assert chinese_integer(text) == value


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("百分之二十", "20%"),
        ("百分之12.5", "12.5%"),
        ("百分之百", "100%"),
        ("千分之五", "0.005"),
        ("三又四分之一", "3.25"),
        ("3又4分之1", "3.25"),
        ("3又1/4", "3.25"),
        ("一半", "0.5"),
        ("三个半", "3.5"),
        ("负三", "-3"),
        ("3.2万", "32000"),
        ("1亿2000万", "120000000"),
        ("3万2千", "32000"),
        ("5千克", "5"),
        ("5 千米", "5"),
        ("1½", "1.5"),
        ("1.2×10⁵", "120000"),
        (r"1.2 \times 10^{5}", "120000"),
        ("6.02e3", "6020"),
        ("24 cm²", "24"),
        (r"24\text{ cm}^2", "24"),
        ("1{,}234", "1234"),
        ("12\u202f345", "12345"),
        ("１２，３４５", "12345"),
        ("100，200", "200"),
        ("1,00,000", "100000"),
        ("1, 2", "2"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("−5", "-5"),
        ("10-3", "3"),
        ("GPT-4", "4"),
        ("12 percent", "12%"),
        ("3 million", "3000000"),
        (".5", "0.5"),
        ("第三天大家一起去", None),
        ("H2O x12", None),
        ("1/0", None),
        ("1e999999999", None),
        ("9" * (LIMIT + 1), None),
    ],
)
def test_last_quantity(text, normal):
    found = last_quantity(plain(text))
    assert (None if found is None else str(found)) == normal


def test_a_mark_keeps_the_bare_numeral():
    assert quantity_at("44万平方米") == (Quantity(Fraction(440_000), Fraction(44), "万"), 3)
    assert quantity_at("25%") == (Quantity(Fraction(1, 4), Fraction(25), "%"), 3)


@given(st.text())
def test_any_text_is_read_without_a_crash(text):
    assert last_quantity(plain(text)) is None or plain(text)
