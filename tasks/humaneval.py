"""HumanEval: a Python function from its head and docstring, run against its tests."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from evalsuite.data import DataFolder
from evalsuite.functions import FunctionTask
from evalsuite.task import DataSource, Sample, TaskMeta

FILES = ("HumanEval.jsonl", "HumanEval.jsonl.gz", "data/HumanEval.jsonl.gz")
PARQUET = ("openai_humaneval/test-*.parquet", "test-*.parquet")


class Row(msgspec.Struct):
    """A problem as it is published."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str


class HumanEval(FunctionTask):
    meta = TaskMeta(
        name="humaneval",
        title="HumanEval",
        description="164 Python functions from their docstrings, run against their tests",
        languages=("en",),
        domain="code",
        licence="MIT",
        citation="Chen et al. 2021, Evaluating Large Language Models Trained on Code, arXiv:2107.03374",
        source=DataSource(
            hub="openai/openai_humaneval",
            revision="7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
            files=("openai_humaneval/*.parquet",),
            sha256={
                "HumanEval.jsonl.gz": "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"
            },
            layout="HumanEval.jsonl(.gz) or test-*.parquet, each row with task_id, prompt,"
            " entry_point, canonical_solution and test",
            url="https://github.com/openai/human-eval",
        ),
        main_metric="pass@1",
        version=1,
        sample_data="samples/humaneval",
    )

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        name = data.path.name if data.path.is_file() else data.first(*FILES, *PARQUET)
        read = data.parquet if name.endswith(".parquet") else data.jsonl
        for number, row in read(name, Row.__struct_fields__):
            try:
                problem = msgspec.convert(row, Row)
            except msgspec.ValidationError as fault:
                data.reject(name, number, str(fault))
                continue
            yield Sample(
                id=problem.task_id,
                fields={
                    "prompt": problem.prompt,
                    "entry_point": problem.entry_point,
                    "test": f"{problem.test}\ncheck({problem.entry_point})\n",
                },
                target=problem.canonical_solution,
            )


TASK = HumanEval()
