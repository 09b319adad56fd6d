"""Answers in real-world wording, hostile text, and threads."""

import re
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.metrics.math import equal, find_answer, read_answer

DECLARED = re.compile(r"#### (-?[0-9.,]++)(?!/)")
ZH = re.compile(r"^答案：(.{1,200})", re.MULTILINE)

# What the model wrote → the answer that a careful reader takes from it; None: there is none.
READINGS = [
    # the declared format
    ("6*7=42\n#### 42", "42"),
    ("#### 1,234", "1234"),
    ("#### 1,234.", "1234"),
    ("#### -5", "-5"),
    ("#### 18\n\nQuestion: next\n#### 20", "18"),
    ("#### $18", "18"),
    ("####18", "18"),
    ("#### 18 dollars", "18"),
    ("#### 3/4", "0.75"),
    ("#### 5 million", "5000000"),
    ("#### 25%", "25%"),
    ("#### eighteen or so, maybe 18", "18"),
    # boxes
    (r"So the answer is \boxed{12}.", "12"),
    (r"\boxed{5} was wrong, it is \boxed{6}", "6"),
    (r"$\boxed{\frac{3}{4}}$", "0.75"),
    (r"\boxed{\dfrac{1}{3}}", "1/3"),
    (r"\boxed{1\frac{1}{2}}", "1.5"),
    (r"\boxed{12\text{ km}}", "12"),
    (r"\boxed{\text{12 apples}}", "12"),
    (r"\boxed{\$12.50}", "12.5"),
    (r"\boxed{25\%}", "25%"),
    (r"\boxed{1{,}234}", "1234"),
    (r"\boxed{12\,345}", "12345"),
    (r"\boxed{x = 5}", "5"),
    (r"\boxed{-7}", "-7"),
    (r"\[ \boxed{540} \]", "540"),
    (r"\boxed{30^\circ}", "30"),
    (r"\fbox{8}", "8"),
    (r"\boxed{十二}", "12"),
    (r"我得到\boxed{12元}，完毕。", "12"),
    # English cues
    ("The answer is 18.", "18"),
    ("The answer is: **18**", "18"),
    ("The final answer is $18.50.", "18.5"),
    ("**Answer:** 18", "18"),
    ("**Final Answer**:\n\n18 apples", "18"),
    ("Answer = 18", "18"),
    ("The answer is 3 + 4 = 7. There were 2 boys.", "7"),
    ("The answer is $7 + 5 = 12$.", "12"),
    (r"The answer is \(12\).", "12"),
    ("The answer is approximately 3.14.", "3.14"),
    ("The answer is about $1,250.75 in 3 months.", "1250.75"),
    ("The correct answer is -3", "-3"),
    ("the answer is negative 3", "-3"),
    ("The answer is 12 for the 3 boys.", "12"),
    ("First answer is 4. No: the answer is 5.", "5"),
    ("The answer is 20 percent.", "20%"),
    ("The answer is 1 3/4 cups.", "1.75"),
    ("The answer is 2.5e3.", "2500"),
    ("The answer is 3 × 10^4 km.", "30000"),
    ("The answer is €12", "12"),
    ("The answer is USD 12", "12"),
    # Chinese cues
    ("答案是12。", "12"),
    ("答案：12个", "12"),
    ("答案: **-3**", "-3"),
    ("所以，正确答案为 3.5 厘米。", "3.5"),
    ("**答案**：12", "12"),
    ("最终答案：\n12元", "12"),
    ("答案是十二个苹果。", "12"),
    ("答案是一百二十三。", "123"),
    ("答案是两千零五元", "2005"),
    ("答案是三分之二。", "2/3"),
    ("答案是百分之二十。", "20%"),
    ("答案是一点五米", "1.5"),
    ("答案是负三度", "-3"),
    ("答案是半小时", "0.5"),
    ("答案是一半", "0.5"),
    ("答：一共有12个苹果。", "12"),
    ("答：小明有5个，还剩7个。", "7"),
    ("答案是５．５米", "5.5"),
    ("答案是１２，３４５元", "12345"),
    ("答案是：5 + 7 = 12个，分给3人", "12"),
    ("答案：7×8=56（个）", "56"),
    ("答案约为3.14", "3.14"),
    ("答案应该是12", "12"),
    ("答案：$12", "12"),
    ("答案是3.2万元", "32000"),
    ("答案是(12)", "12"),
    ("答案是“12”。", "12"),
    ("答案\uff1a\u3000\uff13\uff0f\uff14", "0.75"),
    ("这个答案不对，重新算：3+5，得8", "8"),
    # the last number
    ("She has 12 left, 3 of them red, so 9", "9"),
    ("48/2 = 24 clips", "24"),
    ("一共有12个，每人3个", "3"),
    ("so it costs $1,234.", "1234"),
    ("It is 24 cm^2", "24"),
    ("面积是24 m²", "24"),
    ("10 - 3 = 7", "7"),
    ("A range of 3-5", "5"),
    ("他们一共种了三十二棵树。", "32"),
    ("他们大家一起去，一共十二人", "12"),
    ("That is 50%", "50%"),
    ("\x1b[31m42\x1b[0m", "42"),
    # nothing
    ("", None),
    ("I don't know.", None),
    ("我们一起努力吧！", None),
    ("x2 and H2O", None),
    ("####", None),
    (r"\boxed{}", None),
    ("1/0", None),
]


@pytest.mark.parametrize(("output", "answer"), READINGS)
def test_the_lenient_reading(output, answer):
    lenient = find_answer(output, DECLARED).lenient
    assert (None if lenient is None else lenient.text) == answer


def test_the_table_is_long_enough_to_mean_something():
    assert len(READINGS) >= 80
    assert len({output for output, _ in READINGS}) == len(READINGS)


@pytest.mark.parametrize(
    ("declared", "output", "answer"),
    [
        (DECLARED, "#### 42", "42"),
        (DECLARED, "#### 1,234.", "1234"),
        (DECLARED, "#### 18 = 36/2", "18"),
        (DECLARED, "#### 5\n#### 6", "5"),
        (DECLARED, "#### $18", None),
        (DECLARED, "####18", None),
        (DECLARED, "#### 30/4", None),
        (DECLARED, "#### ...", None),
        (DECLARED, "#### 1.2.3", None),
        (DECLARED, "The answer is 42", None),
        (ZH, "答案：72", "72"),
        (ZH, "计算。\n答案：3/8", "0.375"),
        (ZH, "答案：12个。", "12"),
        (ZH, "答案：十二", "12"),
        (ZH, "答案：15%", "15%"),
        (ZH, "答案：3\n答案：4", "3"),
        (ZH, "所以答案：72", None),
        (ZH, "**答案：**72", None),
        (ZH, "答案：7 × 8 = 56", None),
        (ZH, "答案：不知道", None),
    ],
)
def test_the_strict_reading(declared, output, answer):
    strict = find_answer(output, declared).strict
    assert (None if strict is None else strict.text) == answer


@pytest.mark.parametrize(
    ("answer", "reference", "question", "right"),
    [
        ("0.5", "1/2", "", True),
        ("3.50", "3.5", "", True),
        ("2/6", "1/3", "", True),
        ("50%", "0.5", "", True),
        ("50%", "50", "What percent of them?", True),
        ("50", "50%", "超产百分之几？", True),
        ("50%", "50", "How many are left?", False),
        ("50", "0.5", "What percent of them?", False),
        ("44万平方米", "44", "面积多少万平方米？", True),
        ("440000", "44", "面积多少万平方米？", False),
        ("44万", "44", "面积多少平方米？", False),
        ("3 million", "3", "How many million?", True),
        ("0.333", "1/3", "", False),
        ("33", "33.0001", "", False),
        ("-5", "5", "", False),
        (r"2\sqrt{3}", r"\sqrt{12}", "", True),
        (r"\sqrt{16}", "4", "", True),
        ("3 + 4", "7", "", True),
        (r"(2+3)\times 4", "20", "", True),
        (r"2\sqrt{3}", "3.46", "", False),
        (r"\frac{1}{2}+\frac{1}{3}", "5/6", "", True),
    ],
)
def test_equality(answer, reference, question, right):
    due = read_answer(reference)
    assert due is not None
    assert equal(read_answer(answer), due, question) is right


HOSTILE = {
    "many digits": "9" * 100_000,
    "boxed digits": "\\boxed{" + "9" * 100_000 + "}",
    "a tower": "9**9**9**9",
    "a boxed tower": r"\boxed{9^{9^{9^{9}}}}",
    "powers of powers": r"\boxed{(((9^{99})^{99})^{99})^{99}}",
    "products of powers": r"\boxed{" + "9^{99}*" * 7 + "1}",
    "an exponent": "1e999999999",
    "a small exponent": "答案是 1e-999999999",
    "a factorial": r"\boxed{99999!}",
    "brackets": r"\boxed{" + "(" * 50_000 + "1" + ")" * 50_000 + "}",
    "a few brackets": r"\boxed{" + "(" * 9 + "2+3" + ")" * 9 + "}",
    "fractions": r"\boxed{" + r"\frac{1}{" * 5_000 + "2" + "}" * 5_001,
    "fewer fractions": r"\boxed{" + r"\frac{1+" * 9 + "2" + "}{3}" * 9 + "}",
    "roots": r"\boxed{" + r"\sqrt{" * 11 + "2" + "}" * 12,
    "sums of roots": r"\boxed{\sqrt{\sqrt{2}+\sqrt{3}+\sqrt{5}+\sqrt{7}+\sqrt{11}+\pi}\times\pi}",
    "division by zero": r"\boxed{\frac{1}{0}+0^{-9}}",
    "lines": "line 12\n" * 100_000,
    "boxes": r"\boxed{" * 60_000,
    "cues": "答案是\n" * 60_000,
    "English cues": "answer is " * 60_000,
    "hashes": "#" * 200_000,
    "stars": "答案" + "*" * 200_000,
    "equals": "答案是" + "1=" * 100_000,
    "Chinese digits": "一" * 200_000,
    "Chinese units": "一百" * 100_000,
    "mixed numbers": "一又" * 100_000,
    "halves of fractions": "一分之" * 60_000,
    "commas": "1," * 100_000,
    "groups": "123," * 100_000,
    "slashes": "1/" * 100_000,
    "spaces": " " * 1_000_000,
    "minus signs": "-" * 200_000,
    "superscripts": "⁹" * 100_000,
    "braces": r"\text{" * 60_000,
    "surrogates": "\ud800" * 1000 + "\x00\u202e",
}


@pytest.fixture(scope="module")
def warm():
    """math-verify loads once; that time is no part of any answer's."""
    assert equal(read_answer("2+2"), read_answer(r"\sqrt{16}"))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_output_is_settled_fast(name, warm):
    reference = read_answer("42")
    started = time.process_time()
    found = find_answer(HOSTILE[name], DECLARED)
    right = equal(found.lenient, reference) or equal(found.strict, reference)
    assert time.process_time() - started < 0.7
    assert not right


def test_expressions_are_compared_off_the_main_thread(warm):
    """math-verify's own timer raises there, because it is a signal."""
    verdicts = []

    def work():
        answers = (r"\boxed{\sqrt{25}}", r"\boxed{\sqrt{26}}")
        for answer in answers:
            verdicts.append(equal(find_answer(answer, DECLARED).lenient, read_answer("5")))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert verdicts == [True, False]


def test_plain_numbers_need_no_sympy():
    script = (
        "import sys; from evalsuite.metrics.math import equal, find_answer, read_answer; import re\n"
        "found = find_answer('答案是 3/4', re.compile('#### (.)'))\n"
        "assert equal(found.lenient, read_answer('0.75'))\n"
        "assert 'sympy' not in sys.modules"
    )
    import subprocess

    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


PIECES = st.sampled_from(
    ["答案", "是", "：", "answer is ", "\\boxed{", "}", "\\frac{", "####", " ", "$", "%", "=", "-", "/",
     "1", "23", ",", ".", "万", "一", "百分之", "又", "^", "\\sqrt{", "(", ")", "\n", "e9", "×", "½"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_mixture_of_markup_is_scored_without_a_crash(output):
    found = find_answer(output, DECLARED)
    verdict = equal(found.lenient, read_answer("23"))
    assert verdict in (True, False)
    if found.lenient is not None and found.lenient.quantity is not None:
        again = read_answer(found.lenient.text)
        assert again is not None
        assert again.quantity is not None
        assert again.quantity.value == found.lenient.quantity.value


@given(st.integers(-(10**9), 10**9), st.sampled_from(["", "So it costs 3 and 4. ", "先算3×4=12。"]))
def test_a_declared_number_is_found_after_any_reasoning(number, reasoning):
    for output in (
        f"{reasoning}\n#### {number}",
        f"{reasoning}\\boxed{{{number}}}",
        f"{reasoning}The answer is {number:,}.",
        f"{reasoning}答案是 {number}。",
        f"{reasoning}Result: {number}",
    ):
        assert equal(find_answer(output, DECLARED).lenient, read_answer(str(number))), output
