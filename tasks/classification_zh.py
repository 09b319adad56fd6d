"""Topic classification of short Chinese texts, written out or chosen by log-likelihood."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from evalsuite.data import DataFolder
from evalsuite.metrics.metric import Metric
from evalsuite.request import (
    Choose,
    Chosen,
    Generate,
    Generated,
    Prompt,
    Request,
    Response,
    Sampling,
)
from evalsuite.task import DataSource, Outcome, Sample, Task, TaskMeta, Variant

_PROMPT = "请判断下面这段文字属于哪一类，只写类别名。\n类别：{labels}\n文字：{text}\n类别："


class Item(msgspec.Struct):
    """A row of the data."""

    id: str | int
    text: str
    label: str


class Classification(Task):
    meta = TaskMeta(
        name="classification_zh",
        title="Chinese text classification",
        description="The topic of a short Chinese text, out of a given list",
        languages=("zh",),
        domain="classification",
        licence="sample set: Apache-2.0",
        citation="the sample set is evalsuite's own; Xu et al. 2020, CLUE: A Chinese Language "
        "Understanding Evaluation Benchmark, arXiv:2004.05986, has larger sets (TNEWS, IFLYTEK) "
        "that can be brought into this layout",
        source=DataSource(
            layout="a folder with labels.txt (one label a line), test.jsonl and train.jsonl, "
            "each row with id, text and label",
            url="https://github.com/CLUEbenchmark/CLUE",
        ),
        main_metric="accuracy",
        version=1,
        sample_data="samples/classification_zh",
    )
    variants = (
        Variant("generate", "the model writes the label"),
        Variant("choose", "the likeliest label as the text's continuation"),
    )
    metrics = (
        Metric("accuracy"),
        Metric("balanced_accuracy", statistic="accuracy", macro_over="label"),
    )

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        return _read(data, data.first("test.jsonl"))

    def examples(self, data: DataFolder) -> Iterator[Sample]:
        for name in data.glob("train.jsonl"):
            yield from _read(data, name)

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        prefix = "".join(f"{_ask(shot)}{shot.target}\n\n" for shot in shots)
        if variant == "choose":
            return Choose(Prompt(_ask(sample), prefix, plain=True), tuple(sample.fields["labels"]))
        return Generate(Prompt(_ask(sample), prefix), Sampling(max_tokens=32, stop=("\n",)))

    def score(self, sample: Sample, response: Response) -> Outcome:
        labels: list[str] = sample.fields["labels"]
        answer = None
        if isinstance(response, Generated):
            answer = written_label(response.text, labels)
        elif isinstance(response, Chosen) and response.picked is not None:
            answer = labels[response.picked]
        return Outcome({"accuracy": float(answer == sample.target)}, answer)

    def gold(self, sample: Sample) -> Response:
        return Generated(sample.target)


def written_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that a written answer names.

    The whole answer without spaces and punctuation, else the one label that its first line holds. A
    label inside a longer one (体育 in 体育产业) does not count there. None for no label or several.
    """
    bare = _bare(text)
    same = [label for label in labels if _bare(label) == bare != ""]
    if len(same) == 1:
        return same[0]
    line = next(iter(text.strip().splitlines()), "")
    found = []
    for label in sorted(labels, key=len, reverse=True):
        if label in line:
            found.append(label)
            line = line.replace(label, "\n")
    return found[0] if len(found) == 1 else None


def _bare(text: str) -> str:
    return "".join(character for character in text if character.isalnum())


def _ask(sample: Sample) -> str:
    labels = "、".join(sample.fields["labels"])
    return _PROMPT.format(labels=labels, text=sample.fields["text"])


def _read(data: DataFolder, name: str) -> Iterator[Sample]:
    labels = [line.strip() for line in data.lines("labels.txt") if line.strip()]
    for number, item in data.structs(name, Item, ("id", "text", "label")):
        if item.label not in labels:
            data.reject(name, number, f"label {item.label!r} is not in labels.txt")
            continue
        yield Sample(
            id=str(item.id),
            fields={"text": item.text, "labels": labels},
            target=item.label,
            tags={"label": item.label},
        )


TASK = Classification()
