"""HumanEval-X: HumanEval's problems written anew in several languages; here the Python part."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from evalsuite.data import DataFolder
from evalsuite.functions import FunctionTask
from evalsuite.metrics.code_answer import last_function
from evalsuite.task import DataSource, Sample, TaskMeta


class Row(msgspec.Struct):
    """A problem as it is published; ``test`` ends in a call of its ``check``."""

    task_id: str
    prompt: str
    canonical_solution: str
    test: str


class HumanEvalX(FunctionTask):
    """C++, Java, JavaScript and Go are not run: rows of theirs are refused."""

    meta = TaskMeta(
        name="humaneval_x",
        title="HumanEval-X, Python",
        description="164 Python functions from their docstrings, run against their tests",
        languages=("en",),
        domain="code",
        licence="Apache-2.0",
        citation="Zheng et al. 2023, CodeGeeX: A Pre-Trained Model for Code Generation with"
        " Multilingual Evaluations on HumanEval-X, arXiv:2303.17568",
        source=DataSource(
            hub="zai-org/humaneval-x",
            revision="main",
            files=("data/python/data/*.jsonl",),
            layout="humaneval.jsonl or data/python/data/humaneval.jsonl, each row with task_id"
            " (Python/N), prompt, canonical_solution and test",
            url="https://github.com/zai-org/CodeGeeX",
        ),
        main_metric="pass@1",
        version=1,
        sample_data="samples/humaneval_x",
    )

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        files = (
            "humaneval.jsonl",
            "python/data/humaneval.jsonl",
            "data/python/data/humaneval.jsonl",
        )
        packed = tuple(f"{name}.gz" for name in files)
        name = data.path.name if data.path.is_file() else data.first(*files, *packed)
        for number, problem in data.structs(name, Row, Row.__struct_fields__):
            entry = last_function(problem.prompt)
            if not problem.task_id.startswith("Python/") or not entry:
                data.reject(name, number, f"not a Python problem: {problem.task_id[:40]}")
                continue
            yield Sample(
                id=problem.task_id,
                fields={
                    "prompt": problem.prompt,
                    "entry_point": entry,
                    "test": problem.test,
                },
                target=problem.canonical_solution,
            )


TASK = HumanEvalX()
