"""Questions with four options over facts that the question states.

The samples are held out by content from the data of the tiny ladder in ``train/``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from evalsuite.data import DataFolder
from evalsuite.instructions import FILE
from evalsuite.metrics.choice import LETTERS
from evalsuite.metrics.metric import Metric
from evalsuite.multiple_choice import MultipleChoice, letters_of
from evalsuite.request import Choose, Generate, Prompt, Request, Sampling
from evalsuite.task import DataSource, Sample, TaskMeta, Variant


class Row(msgspec.Struct):
    """A row of the data."""

    id: str
    language: str
    question: str
    options: tuple[str, ...]
    answer: str
    label: str = ""
    content: str = ""


class StatedFacts(MultipleChoice):
    meta = TaskMeta(
        name="ladder_knowledge",
        title="Questions over stated facts",
        description="CMMLU-style questions whose answer stands in the question; the model writes a letter",
        languages=("zh", "en"),
        domain="knowledge",
        licence="Apache-2.0",
        citation="evalsuite's own grammar, train/evalsuite_train/tiny/knowledge.py",
        source=DataSource(
            layout="a JSONL file, or a folder with questions.jsonl, each row with id, language, question,"
            " options and answer; content where several questions are about one thing",
            url="train/README.md",
        ),
        main_metric="accuracy",
        version=1,
        sample_data="samples/ladder_knowledge",
    )
    variants = (
        Variant("chat", "the model writes the letter, in the language of the question"),
        Variant("choose", "the letter with the highest log-likelihood after the plain question"),
    )
    metrics = (Metric("accuracy"),)

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        prefix = "".join(f"{_ask(shot)}{shot.target}\n\n" for shot in shots)
        if variant == "choose":
            return Choose(Prompt(_ask(sample), prefix, plain=True), tuple(letters_of(sample)))
        return Generate(Prompt(_ask(sample), prefix), Sampling(max_tokens=8))

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        name = data.path.name if data.path.is_file() else data.first(FILE)
        for number, row in data.structs(name, Row, ("id", "question", "options", "answer")):
            if row.answer not in LETTERS[: len(row.options)] or len(row.answer) != 1:
                data.reject(name, number, f"the answer {row.answer[:40]!r} names no option")
                continue
            yield Sample(
                id=row.id,
                fields={
                    "question": row.question,
                    "options": list(row.options),
                    "label": row.label,
                },
                target=row.answer,
                tags={"language": row.language},
                cluster=row.content,
            )


def _ask(sample: Sample) -> str:
    question, options = sample.fields["question"], sample.fields["options"]
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False))
    return f"{question}\n{listed}\n{sample.fields['label']}"


TASK = StatedFacts()
