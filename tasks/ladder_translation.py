"""Sentences from one grammar, translated.

The samples are held out by content from the data of the tiny ladder in ``train/``.
"""

from __future__ import annotations

from evalsuite.instructions import Instructions
from evalsuite.metrics.metric import Metric
from evalsuite.metrics.translation import TargetLanguage, signature, statistics
from evalsuite.task import DataSource, Outcome, Sample, TaskMeta, Variant

_CHRF = "chrf"


class SentencePairs(Instructions):
    meta = TaskMeta(
        name="ladder_translation",
        title="Sentences from one grammar, translated",
        description="Sentences of who, when, where and what in both directions; the exact translation counts, chrF2 stands beside it",
        languages=("zh", "en"),
        domain="translation",
        licence="Apache-2.0",
        citation="evalsuite's own grammar, train/evalsuite_train/tiny/translation.py",
        source=DataSource(
            layout="a JSONL file, or a folder with questions.jsonl, each row with id, language, prompt,"
            " reference and direction; content where several questions are about one thing",
            url="train/README.md",
        ),
        main_metric="exact",
        version=1,
        sample_data="samples/ladder_translation",
    )
    variants = (Variant("chat", "the question as a user writes it"),)
    columns = ("direction",)
    tag = "direction"
    metrics = (
        Metric("exact"),
        Metric(
            _CHRF,
            formula=_CHRF,
            macro_over="direction",
            unit="points",
            signature=signature(_CHRF),
        ),
    )

    def check(self, sample: Sample, reply: str) -> Outcome:
        direction = sample.fields["direction"]
        if direction not in ("zh-en", "en-zh"):
            raise ValueError(f"the direction is {str(direction)[:40]!r}, not zh-en or en-zh")
        target: TargetLanguage = "zh" if direction == "en-zh" else "en"
        line = reply.partition("\n")[0].strip()
        scores: dict[str, float | list[float]] = {"exact": float(line == sample.target.strip())}
        scores[_CHRF] = statistics(line, [sample.target], target)[_CHRF]
        return Outcome(scores, line or None)


TASK = SentencePairs()
