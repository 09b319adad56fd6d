"""CMATH: Chinese primary-school word problems, grades 1 to 6."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from evalsuite.data import DataFolder
from evalsuite.request import Sampling
from evalsuite.task import DataSource, Sample, TaskMeta, Variant
from evalsuite.word_problems import (
    WordProblems,
    read_target,
    word_problem_metrics,
)

Rows = Iterator[tuple[int, dict[str, Any]]]

_REQUEST = "请一步一步计算，最后一行写“答案：”和结果。"


class CMATH(WordProblems):
    """Asked as an instruction, with the answer due on a line of its own: ``答案：72``.

    The data set has no worked solutions, so examples (none by default) are those of the sample
    set that ships with this task, and their checksum is recorded with the data's.
    """

    meta = TaskMeta(
        name="cmath",
        title="CMATH",
        description="Chinese word problems from workbooks and exams of primary schools, by grade",
        languages=("zh",),
        domain="reasoning",
        licence="CC BY 4.0",
        citation="Wei et al. 2023, CMATH: Can Your Language Model Pass Chinese Elementary School "
        "Math Test?, arXiv:2306.16636",
        source=DataSource(
            hub="weitianwen/cmath",
            revision="main",
            files=("*.jsonl",),
            sha256=dict.fromkeys(
                ("cmath_dev.jsonl", "datasets/cmath_dev.jsonl"),
                "b9c6333a31fd740e7f5b5a71022bd59e00748798a3377364346d280549b25e3b",
            ),
            layout="test.jsonl, cmath_test.jsonl or cmath_dev.jsonl with question (or input), "
            "golden (or answer) and grade",
            url="https://github.com/XiaoMi/cmath",
        ),
        main_metric="accuracy",
        version=1,
        sample_data="samples/cmath",
    )
    variants = (Variant("instruct", "reasoning, then the answer on the last line"),)
    metrics = word_problem_metrics()
    declared = re.compile(r"^答案：(.{1,200})", re.MULTILINE)
    sampling = Sampling(max_tokens=512)

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        files = ("test.jsonl", "cmath_test.jsonl", "cmath*.jsonl", "datasets/cmath*.jsonl")
        name = data.path.name if data.path.is_file() else data.first(*files)
        return _read(data, name, data.jsonl(name, ("grade",)), "")

    def examples(self, data: DataFolder) -> Iterator[Sample]:
        rows = self.solved_rows(data, "train.jsonl", ("grade", "solution"))
        return _read(data, "train.jsonl", rows, "train/")

    def ask(self, sample: Sample) -> str:
        return f"{sample.fields['question']}\n{_REQUEST}"

    def solve(self, sample: Sample) -> str:
        solution = sample.fields["solution"]
        return f"\n{solution}\n答案：{sample.target}" if solution else f"\n答案：{sample.target}"


def _read(data: DataFolder, name: str, rows: Rows, id_prefix: str) -> Iterator[Sample]:
    for number, row in rows:
        question, answer = _either(row, "question", "input"), _either(row, "golden", "answer")
        if not isinstance(question, str) or not question.strip() or answer is None:
            data.reject(name, number, "no question (or input), or no golden (or answer)")
            continue
        if target := read_target(data, name, number, answer):
            yield Sample(
                id=f"{id_prefix}{number - 1}",
                fields={"question": question, "solution": str(row.get("solution") or "")},
                target=target,
                tags={"grade": str(row["grade"])},
            )


def _either(row: dict[str, Any], *names: str) -> Any:
    """The value under the first of these names that the row has."""
    return next((row[name] for name in names if row.get(name) is not None), None)


TASK = CMATH()
