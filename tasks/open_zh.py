"""Open Chinese prompts in eight categories. Answers are kept for a judge, and checked without one.

What the checks mean is defined in :mod:`evalsuite.metrics.text_checks`. They say whether an answer
is usable, not whether it is good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from evalsuite.data import DataFolder
from evalsuite.metrics.metric import Metric
from evalsuite.metrics.text_checks import (
    Language,
    content_ok,
    language_ok,
    length_ok,
    not_refused,
    not_repetitive,
)
from evalsuite.request import Generate, Generated, Prompt, Request, Response, Sampling
from evalsuite.task import DataSource, Outcome, Sample, Task, TaskMeta, Variant


class Checks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one prompt demands of its answer; characters are counted without whitespace."""

    language: Language = "zh"
    min_chars: int | None = None
    max_chars: int | None = None
    must_include: tuple[str, ...] = ()
    must_not_include: tuple[str, ...] = ()


class OpenPrompt(msgspec.Struct):
    """A row of the data."""

    id: str | int
    category: str
    prompt: str
    reference: str
    checks: Checks = Checks()


class OpenPrompts(Task):
    meta = TaskMeta(
        name="open_zh",
        title="Open Chinese prompts",
        description="Reasoning, knowledge, arithmetic, writing, translation and ambiguity as a user "
        "asks them; deterministic checks of the answers, which a judge can then compare",
        languages=("zh",),
        domain="open generation",
        licence="sample set: Apache-2.0",
        citation="the sample set is evalsuite's own; Liu et al. 2023, AlignBench: Benchmarking "
        "Chinese Alignment of Large Language Models, arXiv:2311.18743, is read as well",
        source=DataSource(
            layout="a folder with prompts.jsonl, each row with id, category, prompt, reference and "
            "checks; or AlignBench's data_release.jsonl (question_id, category, question, reference)",
            url="https://github.com/THUDM/AlignBench",
        ),
        main_metric="checks_passed",
        version=1,
        sample_data="samples/open_zh",
    )
    variants = (Variant("zh", "the prompt alone, as a user would write it"),)
    metrics = tuple(
        Metric(name)
        for name in (
            "checks_passed",
            "language_ok",
            "not_repetitive",
            "not_refused",
            "length_ok",
            "content_ok",
        )
    )

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        if data.path.is_file():
            return _read(data, data.path.name)
        return _read(
            data, data.first("prompts.jsonl", "data_release.jsonl", "data/data_release.jsonl")
        )

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        return Generate(Prompt(sample.fields["prompt"]), Sampling(max_tokens=512))

    def score(self, sample: Sample, response: Response) -> Outcome:
        """Each check is 1 or 0; length and content are ``[passed, demanded]``.

        So a prompt that demands no content has no part in ``content_ok``. ``checks_passed`` is 1
        when no check fails and the answer is not blank.
        """
        text = response.text if isinstance(response, Generated) else ""
        checks = msgspec.convert(sample.fields["checks"], Checks)
        bounded = checks.min_chars is not None or checks.max_chars is not None
        demanding = bool(checks.must_include or checks.must_not_include)
        verdicts = {
            "language_ok": language_ok(text, checks.language),
            "not_repetitive": not_repetitive(text),
            "not_refused": not_refused(text),
            "length_ok": length_ok(text, checks.min_chars, checks.max_chars),
            "content_ok": content_ok(text, checks.must_include, checks.must_not_include),
        }
        scores: dict[str, float | list[float]] = {k: float(ok) for k, ok in verdicts.items()}
        for name, demanded in (("length_ok", bounded), ("content_ok", demanding)):
            scores[name] = [float(demanded and verdicts[name]), float(demanded)]
        scores["checks_passed"] = float(bool(text.strip()) and all(verdicts.values()))
        return Outcome(scores, text.strip() or None)

    def gold(self, sample: Sample) -> Response:
        return Generated(sample.target)


def _read(data: DataFolder, name: str) -> Iterator[Sample]:
    for number, row in data.jsonl(name, ("category", "reference")):
        try:
            item = msgspec.convert(_own_names(row), OpenPrompt)
        except (msgspec.ValidationError, UnicodeEncodeError) as fault:
            data.reject(name, number, str(fault))
            continue
        yield Sample(
            id=str(item.id),
            fields={"prompt": item.prompt, "checks": msgspec.to_builtins(item.checks)},
            target=item.reference,
            tags={"category": item.category},
        )


def _own_names(row: dict[str, Any]) -> dict[str, Any]:
    """AlignBench's rows under our names; ours as they are."""
    names = {"question_id": "id", "question": "prompt"}
    return {names.get(key, key): value for key, value in row.items()}


TASK = OpenPrompts()
