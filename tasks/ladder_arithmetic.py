"""Small word problems.

The samples are held out by content from the data of the tiny ladder in ``train/``.
"""

from __future__ import annotations

import re

from evalsuite.instructions import Instructions
from evalsuite.metrics.math import equal, find_answer, read_answer
from evalsuite.metrics.metric import Metric
from evalsuite.task import DataSource, Outcome, Sample, TaskMeta, Variant

_DECLARED = re.compile(r"(?:答案|answer)\s*[:：]\s*([-+−]?\d[\d,]*(?:\.\d+)?)", re.I)


class Arithmetic(Instructions):
    meta = TaskMeta(
        name="ladder_arithmetic",
        title="Small word problems",
        description="Word problems of one or two steps with numbers up to twenty; the final number counts",
        languages=("zh", "en"),
        domain="math",
        licence="Apache-2.0",
        citation="evalsuite's own grammar, train/evalsuite_train/tiny/arithmetic.py",
        source=DataSource(
            layout="a JSONL file, or a folder with questions.jsonl, each row with id, language, prompt,"
            " reference and answer; content where several questions are about one thing",
            url="train/README.md",
        ),
        main_metric="accuracy",
        version=1,
        sample_data="samples/ladder_arithmetic",
    )
    variants = (Variant("chat", "the question as a user writes it"),)
    columns = ("answer",)
    metrics = (Metric("accuracy"), Metric("extracted"))

    def check(self, sample: Sample, reply: str) -> Outcome:
        reference = read_answer(str(sample.fields["answer"]))
        if reference is None:
            raise ValueError(f"the answer {str(sample.fields['answer'])[:40]!r} is no number")
        strict, lenient = find_answer(reply, _DECLARED)
        answer = strict or lenient
        right = equal(answer, reference, sample.fields["prompt"])
        return Outcome(
            {"accuracy": float(right), "extracted": float(answer is not None)},
            None if answer is None else answer.text,
        )


TASK = Arithmetic()
