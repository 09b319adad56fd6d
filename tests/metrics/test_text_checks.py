"""The deterministic checks of open answers, by their definitions."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.metrics.text_checks import (
    content_ok,
    language_ok,
    length,
    length_ok,
    not_refused,
    not_repetitive,
)

ANY = st.text(st.characters(exclude_categories=()), max_size=300)


@pytest.mark.parametrize(
    ("text", "chinese", "english"),
    [
        ("你好，世界。", True, False),
        ("Hello, world.", False, True),
        ("可以用 Python 或 PyTorch 来训练 GPT 模型。", True, False),
        ("The word 你好 means hello in Chinese.", False, True),
        ("這是繁體中文。", True, False),
        ("これは日本語の文章です", False, False),
        ("это русский текст", False, False),
        ("한국어 문장입니다", False, False),
        ("天 ok", True, True),  # one unit each: half is enough
        ("10000×1.03³=10927.27", True, True),
        ("答案是 C(5,2)=10，x=½", True, False),
        ("x = 3", True, True),
        ("B", True, True),
        ("```html\n<table>", True, True),
        ("", False, False),
        ("……！", False, False),
        ("🎉🎉", False, False),
        ("用循环：\n```python\nfor item in things: print(item)\n```\n就行。", True, False),
        ("Café déjà vu", False, True),
        ("\U00020000\U0002a6d6", True, False),
    ],
)
def test_language(text, chinese, english):
    assert (language_ok(text, "zh"), language_ok(text, "en")) == (chinese, english)


@given(st.text("的一是不了人我在有他", min_size=1), st.lists(st.sampled_from(["GPT", "AI", "is"])))
def test_language_is_a_majority_of_han_characters_and_latin_words(han, latin):
    text = han + " " + " ".join(latin)
    assert language_ok(text, "zh") == (len(han) >= len(latin))
    assert language_ok(text, "en") == (len(latin) >= len(han))


def distinct_text(size, seed=0):
    return "".join(random.Random(seed).sample([chr(c) for c in range(0x4E00, 0x9FA5)], size))


@given(st.integers(1, 200), st.integers(0, 60), st.integers(0, 400))
def test_an_ending_loop_is_found_wherever_it_began(period, cut, lead):
    unit = distinct_text(period, seed=1)
    said = max(4 * period, 40) + cut
    loop = (unit * (said // period + 1))[:said]
    assert not not_repetitive(distinct_text(lead, seed=2) + loop)


@given(st.integers(0, 2_000))
def test_text_without_repetition_passes(size):
    assert not_repetitive(distinct_text(size))


def test_saying_everything_twice_is_not_over_half_and_three_times_is():
    text = distinct_text(100)
    assert not_repetitive(text * 2)  # 91 of 191 windows have occurred before
    assert not not_repetitive(text * 3)
    assert not not_repetitive(f"{text}\n{text}\n\n {text}")  # whitespace hides nothing


@pytest.mark.parametrize("text", ["", "哈哈哈哈", "好" * 39, "轻轻的我走了，正如我轻轻的来；"])
def test_short_repetition_is_style(text):
    assert not_repetitive(text)


def test_forty_times_the_same_character_is_a_loop():
    assert not not_repetitive("好" * 40)


@pytest.mark.parametrize(
    "text",
    [
        "抱歉，我无法回答这个问题。",
        "非常抱歉，作为AI我不能提供医疗建议，请咨询医生。",
        "对不起，这个请求我无法完成。",
        "作为一个人工智能语言模型，我不能参与政治讨论。",
        "“我无法提供相关信息。”",
        "我恐怕不能帮你写这篇文章。",
        "I'm sorry, but I can't help with that.",
        "I’m really sorry, but I cannot assist with this request.",
        "Sorry, I am unable to provide that.",
        "As an AI language model, I cannot discuss this.",
        "Unfortunately, I can't create such content.",
        "I do not feel comfortable writing this.",
    ],
)
def test_refusals(text):
    assert not not_refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "很抱歉，由于家中有事，我明天不能参加会议。",
        "对不起，让您久等了。",
        "我不能忘记那一天的雨。",
        "我无法用语言形容这里的美。",
        "作为一个人工智能，我很乐意帮助你。",
        "可以。若有人说“我无法回答”，那是推托。",
        "I can't believe how good this is.",
        "We regret to inform you that the goods cannot be delivered in time.",
        "I am sorry to hear that. Here is what you can do.",
        "Cats cannot help purring.",
    ],
)
def test_no_refusals(text):
    assert not_refused(text)


@given(ANY)
def test_length_counts_what_is_not_whitespace(text):
    size = sum(not character.isspace() for character in text)
    assert length(text) == size
    assert length_ok(text, None, None)
    assert length_ok(text, size, size)
    assert not length_ok(text, size + 1, None)
    assert not length_ok(text, None, size - 1)


def test_content():
    assert content_ok("答案是 ABC 和 42", ["abc", "42"], ["43"])
    assert not content_ok("答案是 42", ["42", "43"], [])
    assert not content_ok("答案是 42", ["42"], ["答案"])
    assert content_ok("", [], ["x"])


@given(ANY)
def test_any_text_can_be_checked(text):
    for check in (not_repetitive, not_refused):
        assert check(text) in (True, False)
    for language in ("zh", "en"):
        assert language_ok(text, language) in (True, False)


@pytest.mark.parametrize(
    "unit", ["a", "我无法", "```", "抱歉", "sorry I ", "作为一个AI", " ", "\ud800", "as an ai "]
)
def test_huge_answers_are_checked_at_once(unit):
    text = unit * 500_000
    started = time.process_time()
    language_ok(text, "zh"), not_repetitive(text), not_refused(text), content_ok(text, ["b"], [])
    assert time.process_time() - started < 5
