"""Small Python functions.

The samples are held out by content from the data of the tiny ladder in ``train/``.
"""

from __future__ import annotations

from evalsuite.instructions import Instructions
from evalsuite.metrics.metric import Metric
from evalsuite.metrics.program import same_program
from evalsuite.task import DataSource, Outcome, Sample, TaskMeta, Variant


class Functions(Instructions):
    meta = TaskMeta(
        name="ladder_code",
        title="Small Python functions",
        description="A function from a sentence that says what it returns; compared as syntax trees, never run",
        languages=("zh", "en"),
        domain="code",
        licence="Apache-2.0",
        citation="evalsuite's own grammar, train/evalsuite_train/tiny/code.py",
        source=DataSource(
            layout="a JSONL file, or a folder with questions.jsonl, each row with id, language, prompt,"
            " reference; content where several questions are about one thing",
            url="train/README.md",
        ),
        main_metric="same_program",
        version=1,
        sample_data="samples/ladder_code",
    )
    variants = (Variant("chat", "the question as a user writes it"),)
    metrics = (Metric("same_program"),)

    def check(self, sample: Sample, reply: str) -> Outcome:
        right = same_program(reply, sample.target)
        return Outcome({"same_program": float(right)}, reply or None)


TASK = Functions()
