"""Translation between Chinese and English, scored by sacrebleu: BLEU, chrF2, TER.

The directions are never pooled: each is a corpus of its own, with its own tokenizer, and a score over
both is their mean. Of several references only A is used, as in the published WMT22 numbers.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from evalsuite.data import DataFolder
from evalsuite.errors import BadOption, BadRow
from evalsuite.metrics.metric import Metric
from evalsuite.metrics.translation import NAMES, TargetLanguage, signature, statistics
from evalsuite.request import Generate, Generated, Prompt, Request, Response, Sampling
from evalsuite.task import DataSource, Outcome, Sample, Task, TaskMeta, Variant

DIRECTIONS = ("zh-en", "en-zh")
_PROMPTS = {
    "zh": {
        "zh-en": "请把下面的中文翻译成英文，只写译文。\n中文：{source}\n英文：",
        "en-zh": "请把下面的英文翻译成中文，只写译文。\n英文：{source}\n中文：",
    },
    "en": {
        "zh-en": "Translate this from Chinese to English. Write only the translation.\n"
        "Chinese: {source}\nEnglish:",
        "en-zh": "Translate this from English to Chinese. Write only the translation.\n"
        "English: {source}\nChinese:",
    },
}
_FLORES_CODES = {"zh": ("zho_Hans", "cmn_Hans"), "en": ("eng_Latn",)}


class Pair(NamedTuple):
    """A segment and its reference; ``row`` counts from 0."""

    direction: str
    row: int
    source: str
    reference: str
    cluster: str = ""


class Translation(Task):
    meta = TaskMeta(
        name="translation",
        title="Chinese–English translation",
        description="Sentences in both directions; BLEU, chrF2 and TER with sacrebleu's signatures",
        languages=("zh", "en"),
        domain="translation",
        licence="sample set: Apache-2.0; WMT22: research use; FLORES: CC-BY-SA-4.0",
        citation="Kocmi et al. 2022, Findings of the 2022 Conference on Machine Translation; "
        "NLLB Team 2022, No Language Left Behind, arXiv:2207.04672 (FLORES-200); "
        "the sample set is evalsuite's own",
        source=DataSource(
            layout="a folder with NAME.zh-en.src.zh and NAME.zh-en.ref.A.en, likewise en-zh (WMT), "
            "and dev.* for examples; or FLORES with devtest/zho_Hans.devtest and "
            "devtest/eng_Latn.devtest (or cmn_Hans), and dev/ for examples; or test.jsonl and "
            "dev.jsonl with {source, target, direction} or {zh, en}",
            url="https://github.com/wmt-conference/wmt22-news-systems",
            sha256={
                "generaltest2022.en-zh.src.en": "daaa48521733fcc78ad7ad07edc4ac9c"
                "33eb8682fe55bd98096f01175834b872",
                "generaltest2022.en-zh.ref.A.zh": "34c6ad879b2f0c42d696baea3348a1e8"
                "3f00229f4591f9832dc8629fe87835f9",
                "generaltest2022.zh-en.src.zh": "cd97ff7b65974ef6637f07d3de0b5d8e"
                "c8c2978ae7073ae6e92f66c6aa223c09",
                "generaltest2022.zh-en.ref.A.en": "ae4830781cf59d46cc7fd1c39620742b"
                "0711d8d8535558bd751019ad85c0e3d7",
            },
        ),
        main_metric="bleu",
        version=1,
        sample_data="samples/translation",
    )
    variants = (
        Variant("zh", "a Chinese instruction; the translation ends at the line's end"),
        Variant("en", "an English instruction; likewise"),
    )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(
            Metric(
                name,
                formula=name,
                macro_over="direction",
                unit="points",
                higher_is_better=name != "ter",
                signature=signature(name),
            )
            for name in NAMES
        )

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        pairs = _wmt(data, "test") or _flores(data, "devtest") or _jsonl(data, "test")
        return (_sample(pair, f"{pair.direction}/{pair.row}") for pair in pairs)

    def examples(self, data: DataFolder) -> Iterator[Sample]:
        pairs = _wmt(data, "dev") or _flores(data, "dev") or _jsonl(data, "dev")
        return (_sample(pair, f"{pair.direction}/dev/{pair.row}") for pair in pairs)

    def example_group(self, sample: Sample) -> str:
        return sample.tags["direction"]

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        space = " " if variant == "en" else ""
        prefix = "".join(f"{_ask(shot, variant)}{space}{shot.target}\n\n" for shot in shots)
        return Generate(
            Prompt(_ask(sample, variant), prefix), Sampling(max_tokens=256, stop=("\n",))
        )

    def score(self, sample: Sample, response: Response) -> Outcome:
        text = response.text if isinstance(response, Generated) else ""
        target: TargetLanguage = "zh" if sample.tags["direction"].endswith("zh") else "en"
        scores: dict[str, float | list[float]] = {}
        scores |= statistics(text, [sample.target], target)
        return Outcome(scores, text.strip() or None)

    def gold(self, sample: Sample) -> Response:
        return Generated(sample.target)


def _sample(pair: Pair, sample_id: str) -> Sample:
    return Sample(
        id=sample_id,
        fields={"source": pair.source},
        target=pair.reference,
        tags={"direction": pair.direction},
        cluster=pair.cluster,
    )


def _ask(sample: Sample, variant: str) -> str:
    return _PROMPTS[variant][sample.tags["direction"]].format(source=sample.fields["source"])


def _wmt(data: DataFolder, split: str) -> list[Pair]:
    pairs: list[Pair] = []
    for direction in DIRECTIONS:
        source, target = direction.split("-")
        ending = f".{direction}.src.{source}"
        sets = [
            name.removesuffix(ending)
            for name in data.glob(f"*{ending}")
            if name.startswith("dev.") == (split == "dev")
        ]
        if len(sets) > 1:
            raise BadOption(
                f"{len(sets)} {split} sets for {direction}: {', '.join(sets)}",
                where=str(data.path),
                hint="give a folder that holds one of them",
            )
        for name in sets:
            ref = f"{glob.escape(name)}.{direction}.ref"
            reference = data.first(f"{ref}.A.{target}", f"{ref}.*.{target}")
            pairs += _aligned(data, direction, name + ending, reference)
    return pairs


def _flores(data: DataFolder, split: str) -> list[Pair]:
    files = {
        language: name
        for language, codes in _FLORES_CODES.items()
        for code in codes
        for name in data.glob(f"**/{code}.{split}") + data.glob(f"**/{split}.{code}")
    }
    if len(files) < 2:
        return []
    both = [_aligned(data, d, files[d[:2]], files[d[-2:]]) for d in DIRECTIONS]
    return [pair._replace(cluster=str(pair.row)) for pairs in both for pair in pairs]


def _aligned(data: DataFolder, direction: str, source: str, reference: str) -> list[Pair]:
    sources, references = data.lines(source), data.lines(reference)
    if len(sources) != len(references):
        raise BadRow(
            f"{source} has {len(sources)} lines and {reference} has {len(references)}",
            where=str(data.root),
            hint="line n of one must be the translation of line n of the other",
        )
    rows = zip(sources, references, strict=True)
    return [Pair(direction, row, *texts) for row, texts in enumerate(rows)]


def _jsonl(data: DataFolder, split: str) -> list[Pair]:
    if data.path.is_file():
        names = [data.path.name] if split == "test" else []
    else:
        names = [data.first("test.jsonl")] if split == "test" else data.glob("dev.jsonl")
    pairs: list[Pair] = []
    for name in names:
        for number, row in data.jsonl(name, ()):
            try:
                pairs += _pairs(number - 1, row)
            except msgspec.ValidationError as fault:
                data.reject(name, number, str(fault))
    return pairs


class _OneWay(msgspec.Struct):
    source: str
    target: str
    direction: Literal["zh-en", "en-zh"]


class _BothWays(msgspec.Struct):
    zh: str
    en: str


def _pairs(number: int, row: dict[str, Any]) -> list[Pair]:
    if "zh" not in row and "en" not in row:
        one = msgspec.convert(row, _OneWay)
        return [Pair(one.direction, number, one.source, one.target)]
    both = msgspec.convert(row, _BothWays)
    return [
        Pair("zh-en", number, both.zh, both.en, str(number)),
        Pair("en-zh", number, both.en, both.zh, str(number)),
    ]


TASK = Translation()
