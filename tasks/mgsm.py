"""MGSM: the same grade-school word problems in Chinese and in English."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from evalsuite.data import DataFolder
from evalsuite.errors import DataMissing
from evalsuite.request import Sampling
from evalsuite.task import DataSource, Sample, TaskMeta, Variant
from evalsuite.word_problems import (
    WordProblems,
    read_target,
    word_problem_metrics,
)


class Wording(NamedTuple):
    """How one language asks, and how it declares the answer."""

    question: str
    reasoning: str
    answer: str


_WORDINGS = {
    "zh": Wording("问题：{question}\n逐步解答：", "{solution}", "答案是 {n}。"),
    "en": Wording(
        "Question: {question}\nStep-by-Step Answer:", " {solution}", " The answer is {n}."
    ),
}


class MGSM(WordProblems):
    """Chain of thought in the question's own language ("native CoT" of the paper).

    The data set publishes its exemplars as program code, so a folder of the official files has
    none; the exemplars are then those of the sample set that ships with this task, and their
    checksum is recorded with the data's. Which languages are run depends on which files are there.
    A problem keeps its number in all languages, and both versions of it share a cluster.
    """

    meta = TaskMeta(
        name="mgsm",
        title="MGSM",
        description="250 word problems of GSM8K, in Chinese and in English",
        languages=("zh", "en"),
        domain="reasoning",
        licence="CC BY-SA 4.0",
        citation="Shi et al. 2022, Language Models are Multilingual Chain-of-Thought Reasoners, "
        "arXiv:2210.03057",
        source=DataSource(
            hub="juletxara/mgsm",
            revision="main",
            files=("mgsm_zh.tsv", "mgsm_en.tsv"),
            sha256={
                "mgsm_en.tsv": "50021d0f28cc957edcb44e7806425b1c7fbd648ddcb9e0a8ec689d10e57d40fa",
                "mgsm_zh.tsv": "b2fa63151022370a0de1f4211c8c284eae74b0f5a3b003b1d5982c0d4a73f661",
            },
            layout="mgsm_zh.tsv and mgsm_en.tsv, or one of them: question, tab, answer, no header",
            url="https://github.com/google-research/url-nlp/tree/main/mgsm",
        ),
        main_metric="accuracy",
        version=1,
        sample_data="samples/mgsm",
    )
    variants = (Variant("native-cot", "reasoning in the question's language", num_fewshot=5),)
    metrics = word_problem_metrics(macro_over="language")
    declared = re.compile(r"(?:答案是|The answer is) (-?[0-9.,]++)(?!/)")
    sampling = Sampling(max_tokens=320, stop=("\n\n问题：", "问题：", "\n\nQuestion:", "Question:"))

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        names = {language: data.glob(f"mgsm_{language}.tsv") for language in _WORDINGS}
        if not any(names.values()):
            raise DataMissing(
                "neither mgsm_zh.tsv nor mgsm_en.tsv found",
                where=str(data.path),
                hint=f"expected {data.layout}",
            )
        for language, found in names.items():
            for name in found:
                yield from _read(data, name, language)

    def examples(self, data: DataFolder) -> Iterator[Sample]:
        for language in _WORDINGS:
            name = f"exemplars_{language}.jsonl"
            for number, row in self.solved_rows(data, name, ("question", "solution", "answer")):
                if target := read_target(data, name, number, row["answer"]):
                    yield _sample(
                        f"{language}/exemplar/{number - 1}",
                        language,
                        str(row["question"]),
                        target,
                        str(row["solution"]),
                    )

    def example_group(self, sample: Sample) -> str:
        return sample.tags["language"]

    def ask(self, sample: Sample) -> str:
        wording = _WORDINGS[sample.tags["language"]]
        return wording.question.format(question=sample.fields["question"])

    def solve(self, sample: Sample) -> str:
        wording = _WORDINGS[sample.tags["language"]]
        solution = sample.fields["solution"]
        reasoning = wording.reasoning.format(solution=solution) if solution else ""
        return reasoning + wording.answer.format(n=sample.target)


def _read(data: DataFolder, name: str, language: str) -> Iterator[Sample]:
    for number, line in enumerate(data.lines(name), 1):
        if not line.strip():
            continue
        question, tab, answer = line.rpartition("\t")
        if not tab or "\t" in question or not question.strip():
            data.reject(name, number, "not a question, one tab and an answer")
        elif target := read_target(data, name, number, answer):
            cluster = str(number - 1)
            yield _sample(f"{language}/{cluster}", language, question, target, cluster=cluster)


def _sample(
    sample_id: str,
    language: str,
    question: str,
    target: str,
    solution: str = "",
    cluster: str = "",
) -> Sample:
    return Sample(
        id=sample_id,
        fields={"question": question, "solution": solution},
        target=target,
        tags={"language": language},
        cluster=cluster,
    )


TASK = MGSM()
