"""GSM8K: English grade-school word problems with worked answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from evalsuite.data import DataFolder
from evalsuite.request import Generate, Prompt, Request, Sampling
from evalsuite.task import DataSource, Sample, TaskMeta, Variant
from evalsuite.word_problems import WordProblems, read_target, word_problem_metrics

_INSTRUCTION = (
    "{question}\nSolve this step by step. End with a line that has #### and the number alone."
)


class GSM8K(WordProblems):
    """Prompts equal lm-eval's ``gsm8k`` task, example for example.

    lm-eval draws its five examples at random for each question; here they are the first five of
    the train split, so that all questions share one prefix. ``accuracy_strict`` takes the number
    that lm-eval's ``strict-match`` filter takes (the first one after ``#### ``), but compares
    numbers where lm-eval compares text: 18.00 is 18. A fraction cut at its slash is not taken.
    """

    meta = TaskMeta(
        name="gsm8k",
        title="GSM8K",
        description="1,319 English grade-school word problems, 2 to 8 steps",
        languages=("en",),
        domain="reasoning",
        licence="MIT",
        citation="Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, "
        "arXiv:2110.14168",
        source=DataSource(
            hub="openai/gsm8k",
            revision="cc7b047b6e5bb11b4f1af84efc572db110a51b3c",
            files=("main/*.parquet",),
            sha256={
                "test.jsonl": "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"
            },
            layout="test.jsonl, and train.jsonl for examples, each with question and answer "
            "(ending in `#### 18`), or main/test-*.parquet and main/train-*.parquet",
            url="https://github.com/openai/grade-school-math",
        ),
        main_metric="accuracy",
        version=1,
        sample_data="samples/gsm8k",
    )
    variants = (
        Variant("cot", "worked examples, the answer after ####", num_fewshot=5),
        Variant("instruct", "an instruction for chat models, without examples"),
    )
    metrics = word_problem_metrics()
    declared = re.compile(r"#### (-?[0-9.,]++)(?!/)")
    sampling = Sampling(max_tokens=320, stop=("\n\nQuestion:", "Question:"))

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        if data.path.is_file():
            return _read(data, data.path.name, "")
        return _read(data, data.first(*_files("test")), "")

    def examples(self, data: DataFolder) -> Iterator[Sample]:
        return _read(data, data.first(*_files("train")), "train/")

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        if variant == "cot":
            return super().request(sample, shots, variant)
        blocks = [f"{_INSTRUCTION.format(**s.fields)}\n{s.fields['answer']}\n\n" for s in shots]
        prompt = Prompt(_INSTRUCTION.format(**sample.fields), "".join(blocks))
        return Generate(prompt, Sampling(max_tokens=self.sampling.max_tokens))

    def ask(self, sample: Sample) -> str:
        return f"Question: {sample.fields['question']}\nAnswer:"

    def solve(self, sample: Sample) -> str:
        return f" {sample.fields['answer']}"


def _files(split: str) -> tuple[str, ...]:
    """Where a split may lie: a plain folder, the official repository, the hub."""
    return (
        f"{split}*.jsonl",
        f"grade_school_math/data/{split}.jsonl",
        f"main/{split}-*.parquet",
        f"{split}-*.parquet",
    )


def _rows(data: DataFolder, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    read = data.parquet if name.endswith(".parquet") else data.jsonl
    return read(name, ("question", "answer"))


def _read(data: DataFolder, name: str, id_prefix: str) -> Iterator[Sample]:
    for number, row in _rows(data, name):
        question, answer = str(row["question"]), str(row["answer"])
        working, _, final = answer.rpartition("####")
        target = read_target(data, name, number, final)
        if target is None:
            continue
        yield Sample(
            id=f"{id_prefix}{number - 1}",
            fields={"question": question, "answer": answer},
            target=target,
            tags={"steps": _steps(working)},
        )


def _steps(working: str) -> str:
    """How many steps the worked answer takes: it has one a line."""
    count = sum(1 for line in working.splitlines() if line.strip())
    return str(count) if count < 8 else "8+"


TASK = GSM8K()
