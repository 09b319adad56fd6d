"""One-sentence summaries of Chinese news, scored by ROUGE over characters and over words.

The main metric is ROUGE-L over characters: it needs no word list, so it cannot move with jieba's
dictionary, and Chinese summarisation has reported it since LCSTS (Hu et al. 2015).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from evalsuite.data import DataFolder
from evalsuite.metrics.metric import Metric
from evalsuite.metrics.rouge import NAMES, rouge, signature
from evalsuite.request import Generate, Generated, Prompt, Request, Response, Sampling
from evalsuite.task import DataSource, Outcome, Sample, Task, TaskMeta, Variant

_PROMPT = "请用一句话概括下面的文章。\n文章：{text}\n摘要："


class Article(msgspec.Struct):
    """A row of the data."""

    id: str | int
    text: str
    summary: str


class Summarization(Task):
    meta = TaskMeta(
        name="summarization_zh",
        title="Chinese summarisation",
        description="One-sentence summaries of short Chinese news, by ROUGE-1, -2 and -L",
        languages=("zh",),
        domain="summarisation",
        licence="sample set: Apache-2.0; XL-Sum: CC-BY-NC-SA-4.0",
        citation="Hasan et al. 2021, XL-Sum: Large-Scale Multilingual Abstractive Summarization for "
        "44 Languages, Findings of ACL-IJCNLP 2021; the sample set is evalsuite's own",
        source=DataSource(
            layout="a folder with test.jsonl and train.jsonl (or XL-Sum's "
            "chinese_simplified_test.jsonl and chinese_simplified_train.jsonl), "
            "each row with id, text and summary",
            url="https://github.com/csebuetnlp/xl-sum",
        ),
        main_metric="rougeL_char",
        version=1,
        sample_data="samples/summarization_zh",
    )
    variants = (Variant("zh", "a Chinese instruction; the summary ends at the line's end"),)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(Metric(name, signature=signature()) for name in NAMES)

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        if data.path.is_file():
            return _read(data, data.path.name)
        return _read(data, data.first("test.jsonl", "*_test.jsonl"))

    def examples(self, data: DataFolder) -> Iterator[Sample]:
        for name in (data.glob("train.jsonl") + data.glob("*_train.jsonl"))[:1]:
            yield from _read(data, name)

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        prefix = "".join(f"{_ask(shot)}{shot.target}\n\n" for shot in shots)
        return Generate(Prompt(_ask(sample), prefix), Sampling(max_tokens=256, stop=("\n",)))

    def score(self, sample: Sample, response: Response) -> Outcome:
        text = response.text if isinstance(response, Generated) else ""
        scores: dict[str, float | list[float]] = {}
        scores |= rouge(text, sample.target)
        return Outcome(scores, text.strip() or None)

    def gold(self, sample: Sample) -> Response:
        return Generated(sample.target)


def _ask(sample: Sample) -> str:
    return _PROMPT.format(text=sample.fields["text"])


def _read(data: DataFolder, name: str) -> Iterator[Sample]:
    for _, article in data.structs(name, Article, ("id", "text", "summary")):
        yield Sample(str(article.id), {"text": article.text}, article.summary)


TASK = Summarization()
