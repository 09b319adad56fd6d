"""ROUGE against an independent implementation, and against rouge-chinese's own F."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.metrics.rouge import MAX_LCS_TOKENS, NAMES, characters, rouge, signature, words

texts = st.text("甲乙丙丁我们北京大学，。！？… ab\n1.", max_size=40)


def ngram_f1(made, due, n):
    left = {tuple(made[i : i + n]) for i in range(len(made) - n + 1)}
    right = {tuple(due[i : i + n]) for i in range(len(due) - n + 1)}
    return 2 * len(left & right) / (len(left) + len(right)) if left or right else 0.0


def lcs_f1(made, due):
    row = [0] * (len(due) + 1)
    for a in made:
        diagonal = 0
        for j, b in enumerate(due, 1):
            diagonal, row[j] = row[j], diagonal + 1 if a == b else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(made) + len(due)) if made and due else 0.0


@settings(max_examples=200, deadline=None)
@given(made=texts, due=texts)
def test_all_six_scores_against_an_independent_implementation(made, due):
    found = rouge(made, due)
    assert set(found) == set(NAMES)
    for unit, cut in (("char", characters), ("word", words)):
        a, b = cut(made), cut(due)
        assert found[f"rouge1_{unit}"] == pytest.approx(ngram_f1(a, b, 1))
        assert found[f"rouge2_{unit}"] == pytest.approx(ngram_f1(a, b, 2))
        assert found[f"rougeL_{unit}"] == pytest.approx(lcs_f1(a, b))


@settings(max_examples=100, deadline=None)
@given(made=texts.filter(str.strip), due=texts.filter(str.strip))
def test_they_are_rouge_chineses_numbers_without_its_smoothing(made, due):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from rouge_chinese import Rouge
    found = rouge(made, due)
    for unit, cut in (("char", characters), ("word", words)):
        (theirs,) = Rouge().get_scores(" ".join(cut(made)), " ".join(cut(due)))
        for kind, name in (("rouge1", "rouge-1"), ("rouge2", "rouge-2"), ("rougeL", "rouge-l")):
            assert found[f"{kind}_{unit}"] == pytest.approx(theirs[name]["f"], abs=1e-8)


def test_repeated_ngrams_count_once_but_lengthen_the_subsequence():
    found = rouge("茶茶茶茶", "喝茶")
    assert found["rouge1_char"] == pytest.approx(2 * 1 / (1 + 2))
    assert found["rougeL_char"] == pytest.approx(2 * 1 / (4 + 2))


def test_jiebas_published_segmentation():
    assert words("我来到北京清华大学") == ["我", "来到", "北京", "清华大学"]
    assert words("他来到了网易杭研大厦") == ["他", "来到", "了", "网易", "杭研", "大厦"]


def test_very_long_texts_are_bounded():
    long = "".join(chr(0x4E00 + i) for i in range(3 * MAX_LCS_TOKENS))
    found = rouge(long, long)
    assert found["rouge1_char"] == 1
    assert found["rougeL_char"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u3000", "\x1c\u2028"])
def test_nothing_written_scores_nothing(blank):
    assert set(rouge(blank, "有人写").values()) == {0.0}
    assert set(rouge("有人写", blank).values()) == {0.0}


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_any_text_has_a_score(text):
    assert all(0 <= score <= 1 for score in rouge(text, "一只猫 and \ud800").values())


def test_signature_names_the_packages():
    assert "rouge-chinese:1." in signature()
    assert "jieba:0." in signature()
    assert "ngrams:set" in signature()


def test_jieba_is_silent_and_takes_no_dictionary_from_the_temporary_folder(tmp_path):
    planted = tmp_path / "jieba.cache"
    planted.write_bytes(marshal.dumps(({"来到北京清华大学": 10**9}, 10**9)))
    program = (
        "from evalsuite.metrics.rouge import words; print('/'.join(words('我来到北京清华大学')))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "utf8", "-c", program],
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.stdout, done.stderr) == ("我/来到/北京/清华大学\n", "")
    assert list(tmp_path.iterdir()) == [planted]
