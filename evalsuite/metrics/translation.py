"""BLEU, chrF2 and TER as sacrebleu computes them (Post 2018), kept as sufficient statistics.

The tokenizer follows the target language: BLEU of unsegmented Chinese text under ``13a`` is close to
zero and means nothing, and so does TER of whole Chinese sentences as single words. Scores over
different target languages are therefore never pooled, and each carries both signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

TargetLanguage = Literal["zh", "en"]
NAMES = ("bleu", "chrf", "ter")

MAX_CHARACTERS = 20_000
"""Text past this point is left out: ten times the longest segment of any test set, and a bound on
the memory that one hostile answer can take."""

MAX_TER_TOKENS = 500
"""Tokens past this point count as one deletion each. TER's search for shifts takes seconds for
500 tokens and grows with their number; answers of ordinary length are not touched."""


def statistics(
    hypothesis: str, references: Sequence[str], target: TargetLanguage
) -> dict[str, list[float]]:
    """Sufficient statistics of one segment, to be summed and given to the formulas of the same name.

    Args:
        hypothesis: the translation as written; outer whitespace does not matter to any of the three.
        references: one or more reference translations.
        target: the language of both.

    Returns:
        ``bleu``: [hypothesis length, reference length, matches of order 1–4, n-grams of order 1–4];
        ``chrf``: [hypothesis n-grams, reference n-grams, matches] of order 1–6;
        ``ter``: [edits, mean reference length].
    """
    text = hypothesis[:MAX_CHARACTERS]
    due = [reference[:MAX_CHARACTERS] for reference in references]
    return {
        "bleu": _segment(_metric("bleu", target), text, due),
        "chrf": _segment(_metric("chrf", target), text, due),
        "ter": _edits(_metric("ter", target), text, due),
    }


@cache
def signature(name: str) -> str:
    """sacrebleu's signatures of one metric for one reference, ``zh-en SIGNATURE; en-zh SIGNATURE``."""
    parts = []
    for direction, target in (("zh-en", "en"), ("en-zh", "zh")):
        metric = _metric(name, target)
        metric.corpus_score(["a"], [["a"]])  # the number of references is only known after a score
        parts.append(f"{direction} {metric.get_signature()}")
    return "; ".join(parts)


@cache
def _metric(name: str, target: str) -> Any:
    from sacrebleu.metrics import BLEU, CHRF, TER

    if name == "bleu":
        return BLEU(tokenize="zh" if target == "zh" else "13a")
    if name == "chrf":
        return CHRF()
    # Tercom splits Chinese into characters only with both switches on.
    return TER(normalized=True, asian_support=True) if target == "zh" else TER()


def _segment(metric: Any, hypothesis: str, references: Sequence[str]) -> list[float]:
    # The one road in sacrebleu (2.0 to 2.6) to segment statistics; its own significance tests take it.
    rows = metric._extract_corpus_statistics([hypothesis], [[r] for r in references])
    return [float(number) for number in rows[0]]


def _edits(metric: Any, hypothesis: str, references: Sequence[str]) -> list[float]:
    tokens = metric._preprocess_segment(hypothesis).split()
    if len(tokens) <= MAX_TER_TOKENS:
        return _segment(metric, hypothesis, references)
    edits, length = _segment(metric, " ".join(tokens[:MAX_TER_TOKENS]), references)
    return [edits + len(tokens) - MAX_TER_TOKENS, length]
