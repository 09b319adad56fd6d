"""Named entities in Chinese sentences: people, places, organisations, times.

Micro F1 over (type, text), overall and for each type. A sentence without entities that is answered
with 无 changes no count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from evalsuite.data import DataFolder
from evalsuite.metrics.entities import Entity, counts, parse, write
from evalsuite.metrics.metric import Metric
from evalsuite.request import Generate, Generated, Prompt, Request, Response, Sampling
from evalsuite.task import DataSource, Outcome, Sample, Task, TaskMeta, Variant

TYPES = ("人名", "地名", "机构名", "时间")
_PROMPT = (
    "请找出下面句子中的实体。类型有：人名、地名、机构名、时间。"
    "按“类型：实体”书写，用“；”隔开，没有就写“无”。\n句子：{text}\n实体："
)
# An answer may take several lines; a model that goes on to invent the next sentence is stopped.
_SAMPLING = Sampling(max_tokens=256, stop=("\n请找出", "\n句子："))


class Mention(msgspec.Struct):
    """An entity of a row."""

    type: Literal["人名", "地名", "机构名", "时间"]
    text: str


class Sentence(msgspec.Struct):
    """A row of the data."""

    id: str | int
    text: str
    entities: list[Mention]


class Extraction(Task):
    meta = TaskMeta(
        name="extraction_zh",
        title="Chinese entity extraction",
        description="People, places, organisations and times named in a Chinese sentence",
        languages=("zh",),
        domain="extraction",
        licence="sample set: Apache-2.0",
        citation="the sample set is evalsuite's own; Levow 2006, The Third International Chinese "
        "Language Processing Bakeoff (MSRA), and Xu et al. 2020, CLUENER2020, arXiv:2001.04351, are "
        "larger sets that can be brought into this layout",
        source=DataSource(
            layout="a folder with test.jsonl and train.jsonl, each row with id, text and "
            "entities: a list of {type, text}, types 人名 地名 机构名 时间",
            url="https://github.com/CLUEbenchmark/CLUENER2020",
        ),
        main_metric="f1",
        version=1,
        sample_data="samples/extraction_zh",
    )
    variants = (Variant("zh", "a Chinese instruction; entities as 类型：实体"),)
    metrics = (
        Metric("f1", formula="f1", statistic="entities"),
        Metric("precision", formula="precision", statistic="entities"),
        Metric("recall", formula="recall", statistic="entities"),
        *(Metric(f"f1_{kind}", formula="f1", statistic=f"entities_{kind}") for kind in TYPES),
    )

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        return _read(data, data.path.name if data.path.is_file() else data.first("test.jsonl"))

    def examples(self, data: DataFolder) -> Iterator[Sample]:
        for name in data.glob("train.jsonl"):
            yield from _read(data, name)

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        prefix = "".join(f"{_ask(shot)}{write(_gold(shot))}\n\n" for shot in shots)
        return Generate(Prompt(_ask(sample), prefix), _SAMPLING)

    def score(self, sample: Sample, response: Response) -> Outcome:
        text = response.text if isinstance(response, Generated) else ""
        found, gold = parse(text, TYPES), _gold(sample)
        scores: dict[str, float | list[float]] = {"entities": counts(found or (), gold)}
        for kind in TYPES:
            scores[f"entities_{kind}"] = counts(_of_type(kind, found or ()), _of_type(kind, gold))
        return Outcome(scores, None if found is None else write(found))

    def gold(self, sample: Sample) -> Response:
        return Generated(write(_gold(sample)))


def _gold(sample: Sample) -> list[Entity]:
    return [(kind, text) for kind, text in sample.target]


def _of_type(kind: str, entities: Sequence[Entity]) -> list[Entity]:
    return [entity for entity in entities if entity[0] == kind]


def _ask(sample: Sample) -> str:
    return _PROMPT.format(text=sample.fields["text"])


def _read(data: DataFolder, name: str) -> Iterator[Sample]:
    for number, sentence in data.structs(name, Sentence, ("id", "text", "entities")):
        gold = [[mention.type, mention.text] for mention in sentence.entities]
        if parse(write((kind, text) for kind, text in gold), TYPES) != [tuple(e) for e in gold]:
            data.reject(name, number, "an entity is empty, 无, or holds a separator or outer marks")
            continue
        yield Sample(str(sentence.id), {"text": sentence.text}, gold)


TASK = Extraction()
