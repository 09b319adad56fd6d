"""A quality score between 0 and 1: how much a text reads like the reference, and how well it is formed.

The score is the geometric mean of two parts:

* *fluency*: bits a character under a model of the reference, as a distance z from the reference's median in robust
  standard deviations, through 1 / (1 + exp(z - 2)): 0.88 for a text like the median one, 0.5 two deviations above it,
  0.02 six above. The model is an interpolated trigram of characters (below), or a checkpoint where the recipe names
  one; CCNet (Wenzek et al. 2020, arXiv 1911.00359) sorts web text by perplexity in the same way. A distance and not
  a rank, because the worst percent of a good corpus is not bad.
* *form*: the product of three shares that prose keeps high: letters among all visible characters, distinct
  among all character bigrams (of the first thousand), and lines that are no fragments.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalsuite_train.data.record import Outcome, Record, Records

SLOTS = 1 << 20
"""Counters of each order. Hashing into a fixed number bounds the memory (24 MiB); a collision blurs a rare context."""

WEIGHTS = (0.6, 0.3, 0.1)  # trigram, bigram, character
ALPHABET = 20_000  # characters that the uniform remainder is spread over
NO_LETTER = re.compile(r"[\W\d_]+")
BATCH = 64
HEAD = 2000  # characters of a text that are scored
SAMPLE = 5000  # texts that a model learns from
RANKED = 1000  # of them are measured, for a text to be compared with
SPREAD = 0.05  # bits; texts all alike would make every other one an outlier
Bits = Callable[[list[str]], list[float]]
"""Texts → bits a character under a model."""


class CharacterModel:
    """An interpolated trigram model of characters with hashed counts."""

    def __init__(self) -> None:
        # [order, slot]: how often a run of characters was seen, and how often it was a context.
        self.runs = np.zeros((3, SLOTS), np.uint32)
        self.contexts = np.zeros((3, SLOTS), np.uint32)

    def learn(self, texts: list[str]) -> None:
        """Count the texts."""
        for start in range(0, len(texts), BATCH):
            codes, _ = _codes(texts[start : start + BATCH])
            for order, (run, context) in enumerate(_slots(codes)):
                self.runs[order] += np.bincount(run, minlength=SLOTS).astype(np.uint32)
                self.contexts[order] += np.bincount(context, minlength=SLOTS).astype(np.uint32)

    def bits(self, texts: list[str]) -> list[float]:
        """Bits a character of each text, lower for a more expected one; all texts in one pass."""
        if not texts:
            return []
        codes, starts = _codes(texts)
        probability = np.zeros(len(codes) - 2)
        for order, (run, context) in enumerate(_slots(codes)):
            seen = self.runs[order][run] / np.maximum(self.contexts[order][context], 1)
            probability += WEIGHTS[2 - order] * np.minimum(seen, 1.0)
        bits = -np.log2(0.99 * probability + 0.01 / ALPHABET)
        lengths = np.diff(np.append(starts, len(bits)))
        return [float(b) for b in np.add.reduceat(bits, starts) / lengths]


class Quality:
    """Scores texts against a reference.

    Args:
        reference: texts of the wanted kind by language; where there are none, the corpus itself is the reference and
            the score says how typical a text is.
        bits: another model than the trigram, such as :func:`checkpoint_bits`.
    """

    def __init__(self, reference: Iterable[Record], *, seed: int, bits: Bits | None = None) -> None:
        texts: dict[str, list[str]] = {}
        for language, text in reservoir(reference, SAMPLE, seed):
            texts.setdefault(language, []).append(text)
        self.models: dict[str, Bits] = {}
        self.normal: dict[str, tuple[float, float]] = {}
        for language, own in texts.items():
            self.models[language] = bits or learnt(own)
            measured = np.array(self.models[language](own[:RANKED]))
            median = float(np.median(measured))
            # 1.4826 × the median distance is a normal distribution's standard deviation.
            spread = 1.4826 * float(np.median(np.abs(measured - median)))
            self.normal[language] = median, max(spread, SPREAD)

    def scores(self, records: list[Record]) -> list[float]:
        """The score of each record; records of a language without a reference are judged by form alone."""
        found = []
        for language in {record.language for record in records}:
            own = [(i, r.content) for i, r in enumerate(records) if r.language == language]
            texts = [text for _, text in own]
            fluency = self._fluency(language, texts)
            found += [(i, (f * form(t)) ** 0.5) for (i, t), f in zip(own, fluency, strict=True)]
        return [score for _, score in sorted(found)]

    def _fluency(self, language: str, texts: list[str]) -> list[float]:
        if language not in self.models:
            return [form(text) for text in texts]
        median, spread = self.normal[language]
        bits = np.array(self.models[language](texts))
        return [float(f) for f in 1 / (1 + np.exp(np.clip((bits - median) / spread - 2, -50, 50)))]


def learnt(texts: list[str]) -> Bits:
    """Bits a character under a model of the texts, each measured by what the others taught.

    A text that was learnt is never surprising. So two models learn half of the texts each, and a text is measured
    by the one that would not have learnt it; whether it was among the texts at all makes no difference then.
    """
    models = (CharacterModel(), CharacterModel())
    for side, model in enumerate(models):
        model.learn([text for text in texts if _half(text) == side])

    def bits(asked: list[str]) -> list[float]:
        found = [0.0] * len(asked)
        for side, model in enumerate(models):
            own = [i for i, text in enumerate(asked) if _half(text) != side]
            for i, measured in zip(own, model.bits([asked[i] for i in own]), strict=True):
                found[i] = measured
        return found

    return bits


def _half(text: str) -> int:
    return zlib.crc32(text[:HEAD].encode("utf-8", "replace")) & 1


def quality(records: Records, judge: Quality, batch: int = BATCH) -> Iterator[Outcome]:
    """Score each record; drops none."""
    waiting: list[Record] = []

    def scored() -> Iterator[Record]:
        for record, score in zip(waiting, judge.scores(waiting), strict=True):
            record.score = round(score, 4)
            yield record
        waiting.clear()

    for record in records:
        waiting.append(record)
        if len(waiting) == batch:
            yield from scored()
    yield from scored()


def form(text: str) -> float:
    """Between 0 and 1, from the shares of letters, of distinct bigrams and of whole lines."""
    head = text[:HEAD]
    visible = len("".join(head.split()))
    if not visible:
        return 0.0
    letters = len(NO_LETTER.sub("", head)) / visible
    part = head[:1000]
    bigrams = set(pairwise(part))
    # Distinct bigrams fall with length by nature; half as many as there are characters is plenty.
    variety = min(1.0, len(bigrams) / max(1, len(part) - 1) / 0.5)
    lines = [line for line in head.split("\n") if line.strip()]
    whole = sum(len(line) > 8 for line in lines) / len(lines)
    return min(1.0, letters / 0.75) * variety * (0.5 + 0.5 * whole)


def reservoir(records: Iterable[Record], size: int, seed: int) -> list[tuple[str, str]]:
    """Language and beginning of a uniform sample of a stream (Vitter 1985, algorithm R)."""
    rng = random.Random(seed)
    kept: list[tuple[str, str]] = []
    for number, record in enumerate(records):
        if number < size:
            kept.append((record.language, record.content[:HEAD]))
        elif (place := rng.randrange(number + 1)) < size:
            kept[place] = (record.language, record.content[:HEAD])
    return kept


def checkpoint_bits(folder: Path, tokens: int = 512) -> Bits:
    """Bits a character under a Hugging Face checkpoint, over a text's first ``tokens`` tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True).eval()

    @torch.inference_mode()
    def bits(texts: list[str]) -> list[float]:
        found = []
        for text in texts:
            ids = tokenizer(text[: tokens * 8], return_tensors="pt").input_ids[:, :tokens]
            if ids.shape[1] < 2:
                found.append(30.0)
                continue
            nats = float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
            said = tokenizer.decode(ids[0], skip_special_tokens=True)
            found.append(nats / np.log(2) / max(1, len(said)))
        return found

    return bits


def _codes(texts: list[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The beginnings of all texts as code points, two line ends before each; and where each starts.

    A start is counted without the first two code points, as the results of a trigram are. The two line ends before
    a text belong to the one before it.
    """
    heads = ["\n\n" + (text[:HEAD] or "\n") for text in texts]
    raw = "".join(heads).encode("utf-32-le", "replace")
    codes = np.frombuffer(raw, np.uint32).astype(np.uint64)
    return codes, np.cumsum([0, *map(len, heads[:-1])])


def _slots(codes: NDArray[np.uint64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For orders 1, 2 and 3: the slot of each character with its context, and of the context alone."""
    last, one, two = codes[2:], codes[1:-1], codes[:-2]
    none = np.zeros_like(last)
    pairs = (_mixed(one, none) + np.uint64(1), _mixed(one, two))
    return [
        (_slot(last, none), np.zeros(len(last), np.int64)),
        (_slot(last, pairs[0]), _slot(none, pairs[0])),
        (_slot(last, pairs[1]), _slot(none, pairs[1])),
    ]


def _mixed(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed: NDArray[np.uint64] = left * np.uint64(0x9E3779B97F4A7C15) + right * np.uint64(
        0xC2B2AE3D27D4EB4F
    )
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _slot(last: NDArray[np.uint64], context: NDArray[np.uint64]) -> NDArray[np.int64]:
    mixed = _mixed(last + np.uint64(1), context) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(44)).astype(np.int64)
