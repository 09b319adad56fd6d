"""ROUGE of Chinese text, counted by rouge-chinese over characters and over jieba words.

What rouge-chinese 1.0.3 counts, and so what these numbers are:

- ROUGE-1 and ROUGE-2 compare *sets* of n-grams: a repeated n-gram counts once. Lin (2004) counts
  repetitions, clipped. The two agree where nothing repeats.
- ROUGE-L is the longest common subsequence of the two whole texts, not the union over sentences that
  its function's name (``summary_level``) promises.
- F is the plain F1 (β = 1). rouge-chinese adds 1e-8 to its denominator, so that a perfect summary gets
  0.999999995; here F1 is made of the same counts without it, and differs by less than 1e-8.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from functools import cache
from typing import Any

UNITS = ("char", "word")
KINDS = {"rouge1": "rouge-1", "rouge2": "rouge-2", "rougeL": "rouge-l"}
NAMES = tuple(f"{kind}_{unit}" for unit in UNITS for kind in KINDS)

MAX_CHARACTERS = 20_000
"""Text past this point is left out, to bound the memory that one hostile answer can take."""

MAX_LCS_TOKENS = 1_000
"""The subsequence is looked for in this many tokens of each side, since its table has their product
in cells; the lengths that precision and recall divide by are still the whole ones."""


def rouge(hypothesis: str, reference: str) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L F1, 0..1, by characters and by words.

    Whitespace is no token and separates words. A side without tokens scores 0, as does ROUGE-2
    against a reference of a single token.

    Returns:
        :data:`NAMES` → F1, such as ``{"rouge1_char": 0.5, ...}``.
    """
    scores = {}
    for unit, tokens in (("char", characters), ("word", words)):
        made, due = tokens(hypothesis[:MAX_CHARACTERS]), tokens(reference[:MAX_CHARACTERS])
        for kind, f1 in _f1(made, due).items():
            scores[f"{kind}_{unit}"] = f1
    return scores


def characters(text: str) -> list[str]:
    """The characters of a text, without whitespace."""
    return [character for character in text if not character.isspace()]


def words(text: str) -> list[str]:
    """jieba's words (accurate mode, with its hidden Markov model for unknown words)."""
    return [word for word in _jieba().cut(text) if not word.isspace()]


def signature() -> str:
    """Versions and settings that decide these numbers, in sacrebleu's manner."""
    versions = [f"{name}:{importlib.metadata.version(name)}" for name in ("rouge-chinese", "jieba")]
    return "|".join(["ngrams:set", "lcs:text", "beta:1", *versions])


def _f1(made: list[str], due: list[str]) -> dict[str, float]:
    if not made or not due:
        return dict.fromkeys(KINDS, 0.0)
    counts = _rouge(("rouge-1", "rouge-2")).get_scores(" ".join(made), " ".join(due))[0]
    head = " ".join(made[:MAX_LCS_TOKENS]), " ".join(due[:MAX_LCS_TOKENS])
    counts |= _rouge(("rouge-l",)).get_scores(*head)[0]
    counts["rouge-l"] |= {"hyp": len(made), "ref": len(due)}
    return {kind: _ratio(counts[name]) for kind, name in KINDS.items()}


def _ratio(counts: dict[str, int]) -> float:
    size = counts["hyp"] + counts["ref"]
    return 2 * counts["overlap"] / size if size else 0.0


@cache
def _rouge(kinds: tuple[str, ...]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in its source
        from rouge_chinese import Rouge

    return Rouge(metrics=kinds, raw_results=True)


@cache
def _jieba() -> Any:
    """A jieba tokenizer whose dictionary is read straight from the package.

    jieba's own start would take a marshalled dictionary from the shared temporary folder, where
    anybody can put one, and would print what it does. Reading the text file costs about a second.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes, and the way it looks for its files
        import jieba

        tokenizer = jieba.Tokenizer()
        tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer
