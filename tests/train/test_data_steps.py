"""Each step by itself, against truths that do not come from it."""

from __future__ import annotations

import random

import pytest
from evalsuite_train.data.clean import characters, clean, without_markup
from evalsuite_train.data.duplicates import FEWEST, exact, near, shingles_of, signature
from evalsuite_train.data.language import language_of
from evalsuite_train.data.quality import Quality, form
from evalsuite_train.data.record import Dropped, Record, Turn
from evalsuite_train.data.rules import broken_rule
from evalsuite_train.data.sensitive import Terms, own_terms, read_terms, sensitive
from evalsuite_train.errors import BadData
from hypothesis import given
from hypothesis import strategies as st


def document(text: str, **more) -> Record:
    return Record("s", "f:1", language=language_of(text), text=text, **more)


def kept(outcomes) -> list[str]:
    return [o.content for o in outcomes if isinstance(o, Record)]


def reason(outcomes) -> str | None:
    (outcome,) = outcomes
    return outcome.reason if isinstance(outcome, Dropped) else None


@given(st.text())
def test_cleaning_once_is_enough_and_leaves_no_control_characters(text):
    once = characters(text)
    assert characters(once) == once
    assert not any(ord(c) < 32 and c not in "\t\n" for c in once)


def test_cleaning_keeps_what_only_looks_like_markup():
    for text in (
        "#include <vector>\nif (a < b && c > d) return;",
        "<s>Human: 你好</s>",
        "f(x) = x²，ＡＢＣ",
    ):
        assert without_markup(characters(text)) == text
    html = "<html><head><title>标题</title><script>var a = '<p>';</script></head><body><p>第一段&nbsp;&lt;好&gt;</p><p>第二段<br/>第三段</p><!-- x --></body></html>"
    assert without_markup(html).split("\n") == ["标题", "", "第一段 <好>", "", "第二段", "第三段"]
    page = document("首页 关于我们 联系我们\n今天的河水很清，孩子们在岸边读书。\n版权所有 © 2019")
    assert kept(clean([page])) == ["今天的河水很清，孩子们在岸边读书。"]
    essay = "这本小说的版权所有者在访谈里谈到，" * 10
    assert kept(clean([document(essay)])) == [essay], "a long line that names copyright is about it"


def test_exact_duplicates_differ_in_case_width_space_and_punctuation_at_most():
    same = [
        "Hello, World 12",
        "hello world 12",
        "ＨＥＬＬＯ　ｗｏｒｌｄ　１２！",
        "hello world 13",
        "！！",
        "？？",
    ]
    assert kept(exact(map(document, same))) == ["Hello, World 12", "hello world 13", "！！", "？？"]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_near_duplicates_are_those_whose_shingles_overlap(tmp_path, language):
    """Against Jaccard computed from the sets: all clearly above the threshold go, none clearly below."""
    rng = random.Random(3)
    words = (
        [f"w{i}" for i in range(800)] if language == "en" else [chr(0x4E00 + i) for i in range(800)]
    )
    join = (" " if language == "en" else "").join
    base = [rng.choice(words) for _ in range(120)]
    records, truth = [document(join(base))], [None]
    first = set(shingles_of(records[0]).tolist())
    for changes in range(0, 60, 2):
        copy = list(base)
        for place in rng.sample(range(120), changes):
            copy[place] = rng.choice(words)
        record = document(join(copy))
        own = set(shingles_of(record).tolist())
        records.append(record)
        truth.append(len(own & first) / len(own | first))
    # The estimate's standard deviation is at most 0.044.
    for record, jaccard in zip(records[1:], truth[1:], strict=True):
        found = reason(list(near([records[0], record], 0.65, tmp_path))[1:])
        if jaccard > 0.77:
            assert found == "near duplicate", jaccard
        if jaccard < 0.52:
            assert found is None, jaccard
    assert any(t > 0.77 for t in truth[1:])
    assert any(t < 0.52 for t in truth[1:])
    assert not list(tmp_path.iterdir()), "the index is gone"


def test_a_signature_estimates_jaccard():
    left, right = (
        document(" ".join(f"a{i}" for i in range(300))),
        document(" ".join(f"a{i}" for i in range(100, 400))),
    )
    estimate = (signature(shingles_of(left)) == signature(shingles_of(right))).mean()
    assert abs(estimate - 198 / 398) < 0.14  # three standard deviations of 128 permutations


def test_short_texts_are_no_near_duplicates(tmp_path):
    short = [document("是的，我同意你的看法"), document("是的，我同意他的看法")]
    assert all(len(shingles_of(r)) < FEWEST for r in short)
    assert len(kept(near(short, 0.1, tmp_path))) == 2


def test_quality_ranks_prose_above_noise_whether_or_not_it_was_learnt():
    rng = random.Random(1)
    zh = ["孩子", "河水", "老人", "看见", "喜欢", "山坡", "学校", "走过", "清晨", "故事"]
    prose = ["，".join("".join(rng.choices(zh, k=5)) for _ in range(8)) + "。" for _ in range(200)]
    noise = ["".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(90)) for _ in range(20)]
    judge = Quality(map(document, prose + noise), seed=1)
    good, bad = (
        judge.scores([document(t) for t in prose]),
        judge.scores([document(t) for t in noise]),
    )
    assert min(good) > max(bad) + 0.3
    fresh = ["，".join("".join(rng.choices(zh, k=5)) for _ in range(8)) + "。" for _ in range(200)]
    unseen = judge.scores([document(t) for t in fresh])
    assert abs(sum(good) - sum(unseen)) / 200 < 0.03, "being in the sample is no advantage"
    assert all(0 <= s <= 1 for s in good + bad + unseen)
    assert judge.scores([document("Другой язык, о котором образец молчит.")])[0] > 0.5
    assert judge.scores([]) == []
    assert form("") == 0


def test_a_checkpoint_can_judge(checkpoint_path):
    from evalsuite_train.data.quality import checkpoint_bits

    bits = checkpoint_bits(checkpoint_path)
    short, long = bits(["今天天气很好", "今天天气很好，我们去公园散步。" * 20])
    assert short > 0
    assert long > 0
    judge = Quality([document("今天天气很好，我们去公园散步。")], seed=1, bits=bits)
    (score,) = judge.scores([document("今天天气很好，我们去公园散步。")])
    assert 0 < score <= 1


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("太短了", "too short"),
        ("很好" * 200_000, "too long"),
        ("#$%^&*()" * 20 + "价格", "few letters"),
        ("不错不错" * 40, "repeated n-grams"),
        ("the cat sat on the mat and then " * 20, "repeated n-grams"),
        ("\n".join(f"- item number {i} of the list" for i in range(20)), "bullets only"),
        (
            "\n".join(
                f"{w}: chapter {w} of a story that is told in ten words {w}..." for w in "abcdefgh"
            ),
            "lines cut off",
        ),
        ("\n".join(["同样的一行文字在这里出现", "第二行文字是别的"] * 6), "repeated lines"),
        (
            "今天天气好……我们去公园散步吧……这里很安静……河水很清……孩子们在读书……老人看山……" * 1,
            "many symbols",
        ),
        ("a b c d e f g h i j k l m n o p q r s t u v w x y z", "strange words"),
        ("今天的河水很清，孩子们在岸边读书，老人坐在桥上看远处的山。", None),
        (
            "The farmer near the river watched a lantern, and the teacher crossed the old bridge.",
            None,
        ),
    ],
)
def test_each_rule_drops_what_it_is_for(text, rule):
    assert broken_rule(document(text), 20, 200_000) == rule


def test_a_short_answer_is_a_conversation_and_an_endless_one_is_not():
    def conversation(answer: str) -> Record:
        return Record(
            "s", "f:1", "zh", conversations=[Turn("human", "2+3=?"), Turn("assistant", answer)]
        )

    assert broken_rule(conversation("B"), 20, 10_000) is None
    assert broken_rule(conversation("答案是五，" * 100), 20, 10_000) == "repeated n-grams"


def test_terms_match_words_in_english_and_parts_in_chinese_but_not_allowed_phrases():
    terms = Terms(
        {"heroin": "drugs", "贩毒": "drugs", "黄色网站": "porn"},
        ["打击贩毒", "heroin overdose clinic"],
    )
    for text in (
        "he sold HEROIN.",
        "团伙贩毒案",
        "贩 毒",
        "贩*毒",
        "贩\u200b毒",
        "ｈｅｒｏｉｎ",
        "警方打击贩毒，他仍贩毒",
    ):
        assert [c for _, c in terms.find(text)] == ["drugs"], text
    for text in (
        "the heroine won",
        "警方打击贩毒",
        "a heroin overdose clinic",
        "贩卖。毒药",
        "heroins2",
    ):
        assert not list(terms.find(text)), text


def test_one_mention_in_a_long_text_is_no_subject():
    terms = own_terms()
    news = "今天的河水很清，孩子们在岸边读书，老人坐在桥上看远处的山。" * 50 + "有人遇到高利贷。"
    assert reason(sensitive([document(news)], terms)) is None
    assert reason(sensitive([document(news + "高利贷" * 2)], terms)) == "sensitive: fraud"
    assert reason(sensitive([document("高利贷，快速放款")], terms)) == "sensitive: fraud"


def test_ten_thousand_terms_are_found_each(tmp_path):
    rng = random.Random(4)
    words = {
        "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(rng.randrange(2, 5)))
        for _ in range(10_000)
    }
    path = tmp_path / "terms.tsv"
    path.write_text("# own\n" + "".join(f"c\t{word}\n" for word in sorted(words)), encoding="utf-8")
    terms = read_terms(path)
    for word in rng.sample(sorted(words), 200):
        found = [term for term, _ in terms.find(f"前{word}后")]
        assert found, word


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("c\tgood term\nno category\n", r"terms.tsv:2: a line is CATEGORY<TAB>TERM"),
        ("c\t毒\n", r"terms.tsv:1: a term of one character would match everywhere"),
        (b"c\t\xff\xfe\n", "not UTF-8 at byte 2"),
    ],
)
def test_a_bad_list_of_terms_is_named(tmp_path, content, message):
    path = tmp_path / "terms.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadData, match=message):
        read_terms(path)


def test_language_is_told_by_characters():
    assert language_of("这款 iPhone 手机的 camera 很好用") == "zh"
    assert language_of("The word 你好 means hello in Chinese") == "en"
    assert language_of("これはペンです、日本語の文章です") == "other"
    assert language_of("Это русский текст") == "other"
    assert language_of("12345 !!!") == "other"
