"""Which samples a page shows, side by side: disagreements first, then failures, then the rest."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from evalsuite.lines import encode
from evalsuite.metrics.formulas import formula
from evalsuite.metrics.metric import Metric
from evalsuite.record import Record
from evalsuite.report.board import Output, SampleSet, ShownSample
from evalsuite.request import Chosen, Generated, Scored
from evalsuite.stats.sufficient import vectors
from evalsuite.summary import is_truncated

SHOWN = 60
"""Samples embedded for each column."""
_EACH_FAILURE = 10
"""Places kept for samples with errors, and for truncated ones."""
_TEXT = 4_000
"""Characters of one text; the run's records hold the whole."""


class _Seen(msgspec.Struct):
    """What is known of a sample after the first reading."""

    low: float = float("inf")
    high: float = float("-inf")
    error: bool = False
    truncated: bool = False

    @property
    def spread(self) -> float:
        return max(self.high - self.low, 0.0)

    @property
    def kinds(self) -> tuple[str, ...]:
        found = {"differ": self.spread > 0, "errors": self.error, "truncated": self.truncated}
        return tuple(kind for kind, true in found.items() if true)


class SamplePicker:
    """Sees every record once, chooses, and then collects the texts of the chosen samples.

    Args:
        metric: of the column; None where no run has a score.
        words: of the page's language.
    """

    def __init__(self, metric: Metric | None, words: Mapping[str, str]) -> None:
        self.metric = metric
        self.words = words
        self._seen: dict[str, _Seen] = {}
        self._first: dict[str, Record] = {}
        self._outputs: dict[str, dict[int, Output]] = {}

    def add(self, row: int, record: Record) -> None:
        """First reading: scores and failures."""
        seen = self._seen.setdefault(record.sample, _Seen())
        seen.error |= record.error is not None
        seen.truncated |= is_truncated(record)
        score = self._score(record)
        if score is not None:
            seen.low, seen.high = min(seen.low, score), max(seen.high, score)

    def choose(self) -> None:
        """Decide which samples are shown, the same ones every time."""

        def rank(sample: str) -> tuple[float, bytes]:
            """Ties are broken by a hash, so that no subject crowds the others out."""
            return -self._seen[sample].spread, hashlib.sha256(encode(sample)).digest()

        by_spread = sorted(self._seen, key=rank)
        failed = [i for i in by_spread if self._seen[i].error][:_EACH_FAILURE]
        cut = [i for i in by_spread if self._seen[i].truncated][:_EACH_FAILURE]
        wanted = set(list(dict.fromkeys([*failed, *cut, *by_spread]))[:SHOWN])
        self._outputs = {sample: {} for sample in by_spread if sample in wanted}

    def add_text(self, row: int, record: Record) -> None:
        """Second reading: the texts of the chosen samples."""
        if record.sample in self._outputs:
            self._first.setdefault(record.sample, record)
            self._outputs[record.sample][row] = self._output(row, record)

    def chosen(self) -> SampleSet:
        """The chosen samples with their texts, and how many there are of each kind."""
        kinds = [kind for seen in self._seen.values() for kind in seen.kinds]
        counts = {kind: kinds.count(kind) for kind in ("differ", "errors", "truncated")}
        samples = []
        for sample, outputs in self._outputs.items():
            first = self._first[sample]
            samples.append(
                ShownSample(
                    id=sample,
                    prompt=_cut(first.prompt),
                    target=_cut(as_text(first.target)),
                    tags=first.tags,
                    kinds=self._seen[sample].kinds,
                    outputs=tuple(outputs[row] for row in sorted(outputs)),
                )
            )
        return SampleSet(counts={"all": len(self._seen)} | counts, samples=tuple(samples))

    def _score(self, record: Record) -> float | None:
        if record.error is not None or self.metric is None:
            return None
        value = record.scores.get(self.metric.source)
        if self.metric.formula == "mean" and isinstance(value, (int, float)):
            return float(value) if math.isfinite(value) else None
        name = f"{record.task}/{record.sample}"
        with np.errstate(all="ignore"):
            rows = vectors(self.metric, [record.scores], lambda _: name)
            score = float(formula(self.metric.formula)(rows)[0])
        return score if np.isfinite(score) else None

    def _output(self, row: int, record: Record) -> Output:
        if record.error is not None:
            note = f"{record.error.code}: {record.error.message}"
            return Output(row=row, state="error", note=_cut(note), text=self._text(record)[0])
        score = self._score(record)
        text, note = self._text(record)
        return Output(
            row=row,
            state=self._state(score),
            score="" if score is None else f"{score:.4g}",
            text=text,
            answer=None if record.answer is None else _cut(record.answer),
            note=note,
            truncated=is_truncated(record),
        )

    def _text(self, record: Record) -> tuple[str, str]:
        """What was written, and a note where the engine only weighed given texts."""
        response, note = record.response, ""
        if isinstance(response, Generated):
            return _cut(response.text), ""
        likelihood = self.words["log_likelihood"]
        if isinstance(response, Chosen):
            picked = "–" if response.picked is None else str(response.picked + 1)
            note = f"{self.words['choice']} {picked}"
            if response.logprobs:
                numbers = "  ".join(f"{value:.3f}" for value in response.logprobs[:26])
                note += f"\n{likelihood} {numbers}"
        if isinstance(response, Scored):
            note = f"{likelihood} {response.logprob:.3f} / {response.token_count}"
        return "", note

    def _state(self, score: float | None) -> str:
        if score is None or self.metric is None or self.metric.unit != "percent":
            return "mid"
        score = score if self.metric.higher_is_better else 1 - score
        return "good" if score >= 1 else "bad" if score <= 0 else "mid"


def as_text(value: Any) -> str:
    """A JSON value for reading: text as it is, anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else encode(value).decode("utf-8")


def _cut(text: str) -> str:
    if len(text) <= _TEXT:
        return text
    return f"{text[:_TEXT]}… [+{len(text) - _TEXT:,}]"
