"""BLEU, chrF2 and TER from summed statistics against sacrebleu's own corpus scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import TER

from evalsuite.metrics.formulas import FORMULAS
from evalsuite.metrics.translation import MAX_TER_TOKENS, NAMES, signature, statistics

ENGLISH = [
    "The",
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    ",",
    "3.5",
    "--",
    "don't",
    ".",
    "!",
    "&amp;",
    "naïve",
]
CHINESE = [*"我你他的猫在北京喝茶，。！３5.2", "GPT", " "]


def corpus_score(name, hypotheses, references, target):
    if name == "bleu":
        tokenizer = "zh" if target == "zh" else "13a"
        return sacrebleu.corpus_bleu(hypotheses, references, tokenize=tokenizer, force=True).score
    if name == "chrf":
        return sacrebleu.corpus_chrf(hypotheses, references).score
    asian = {"normalized": True, "asian_support": True} if target == "zh" else {}
    return sacrebleu.corpus_ter(hypotheses, references, **asian).score


def summed(name, pairs, target):
    rows = [statistics(hypothesis, [due], target)[name] for hypothesis, due in pairs]
    return np.sum(rows, axis=0)


@st.composite
def corpora(draw, vocabulary, joint):
    sentence = st.lists(st.sampled_from(vocabulary), max_size=14).map(joint.join)
    pairs = []
    for reference in draw(st.lists(sentence, min_size=1, max_size=5)):
        tokens = reference.split(joint) if joint else list(reference)
        edited = st.permutations(tokens).map(joint.join) if len(tokens) > 1 else sentence
        pairs.append((draw(st.one_of(sentence, st.just(reference), edited)), reference))
    return pairs


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_summed_statistics_give_sacrebleus_corpus_score(name, data):
    for target, vocabulary, joint in (("en", ENGLISH, " "), ("zh", CHINESE, "")):
        pairs = data.draw(corpora(vocabulary, joint))
        hypotheses, references = zip(*pairs, strict=True)
        expected = corpus_score(name, list(hypotheses), [list(references)], target)
        found = FORMULAS[name](summed(name, pairs, target))
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_formulas_work_on_many_corpora_at_once(name):
    pairs = [("the cat sat on the mat", "a cat sat on a mat ."), ("", "x"), ("a b", ""), ("", "")]
    alone = np.array([statistics(made, [due], "en")[name] for made, due in pairs])
    resampled = np.stack([[alone[0], alone[1]], [alone[2], alone[3]], [alone.sum(0), alone[0]]])
    scores = FORMULAS[name](resampled)
    assert scores.shape == (3, 2)
    for place in np.ndindex(3, 2):
        assert scores[place] == FORMULAS[name](resampled[place])


@pytest.mark.parametrize("name", NAMES)
def test_two_references(name):
    hypotheses = ["the cat sat on the mat", "it rains a lot today"]
    references = [["a cat is on a mat", "it is raining"], ["the cat sat there", "it rains today"]]
    pairs = zip(hypotheses, zip(*references, strict=True), strict=True)
    total = np.sum([statistics(made, due, "en")[name] for made, due in pairs], axis=0)
    assert FORMULAS[name](total) == pytest.approx(
        corpus_score(name, hypotheses, references, "en"), abs=1e-9
    )


def test_chinese_is_cut_into_characters():
    made, due = "他昨天在北京的图书馆看书", "他昨天在北京的图书馆里看书"
    as_words = sacrebleu.corpus_bleu([made], [[due]], tokenize="13a").score
    assert as_words == 0
    stats = statistics(made, [due], "zh")
    assert FORMULAS["bleu"](np.array(stats["bleu"])) > 70
    assert stats["ter"] == [1, 13]  # one character is missing of thirteen


def test_a_perfect_translation():
    stats = statistics("I like drinking tea.", ["I like drinking tea."], "en")
    scores = {name: float(FORMULAS[name](np.array(stats[name]))) for name in NAMES}
    assert scores == pytest.approx({"bleu": 100, "chrf": 100, "ter": 0})


def test_signatures_name_both_tokenizers_and_the_version():
    english, chinese = signature("bleu").split("; ")
    assert english.startswith("zh-en nrefs:1|")
    assert chinese.startswith("en-zh nrefs:1|")
    assert "|tok:13a|" in english
    assert "|tok:zh|" in chinese
    assert all(signature(name).endswith(f"|version:{sacrebleu.__version__}") for name in NAMES)
    assert "asian:yes" in signature("ter").split("; ")[1]


def test_long_answers_keep_their_edits():
    long = " ".join(["x"] * (MAX_TER_TOKENS + 200))
    assert TER().corpus_score([long], [["a b c"]]).num_edits == MAX_TER_TOKENS + 200
    assert statistics(long, ["a b c"], "en")["ter"] == [MAX_TER_TOKENS + 200, 3]


@given(text=st.text(max_size=60), before=st.text(" \n\t\u3000"), after=st.text(" \n\t\u3000"))
def test_outer_whitespace_never_matters(text, before, after):
    for target in ("zh", "en"):
        due = ["一只猫 sat on the mat."]
        padded = statistics(f"{before}{text.strip()}{after}", due, target)
        assert padded == statistics(text.strip(), due, target)


@given(st.text(st.characters(exclude_categories=()), max_size=80))
def test_any_text_has_finite_scores(text):
    for target in ("zh", "en"):
        stats = statistics(text, ["猫 on the mat"], target)
        assert [len(stats[name]) for name in NAMES] == [10, 18, 2]
        for name in NAMES:
            assert math.isfinite(FORMULAS[name](np.array(stats[name])))
