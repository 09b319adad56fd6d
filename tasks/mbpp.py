"""MBPP: a Python function from a sentence and three tests, run against them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from evalsuite.code import CodeTask
from evalsuite.data import DataFolder
from evalsuite.metrics.code_answer import code_in, cut
from evalsuite.request import Generate, Generated, Prompt, Request, Response, Sampling
from evalsuite.sandbox import Program
from evalsuite.task import DataSource, Sample, TaskMeta, Variant

END = "[DONE]"
EXAMPLES = range(1, 11)
"""Task ids of the prompt split; examples are taken from 2 on, as the paper does."""
TEST = range(11, 511)


class Row(msgspec.Struct):
    """A problem as it is published: ``text`` in the full set, ``prompt`` in the sanitised one."""

    task_id: int
    code: str
    test_list: list[str]
    text: str = ""
    prompt: str = ""
    test_setup_code: str = ""
    test_imports: list[str] = []


class MBPP(CodeTask):
    """Prompts of the variant ``prompt`` equal lm-eval's ``mbpp``, with its three examples.

    The data says which set it is: all 974 problems, or the 427 that were read again.
    """

    meta = TaskMeta(
        name="mbpp",
        title="MBPP",
        description="Python functions from a sentence, run against three tests: 500 problems, or the 257"
        " of them in the sanitised set",
        languages=("en",),
        domain="code",
        licence="CC-BY-4.0",
        citation="Austin et al. 2021, Program Synthesis with Large Language Models, arXiv:2108.07732",
        source=DataSource(
            hub="google-research-datasets/mbpp",
            revision="4bb6404fdc6cacfda99d4ac4205087b89d32030c",
            files=("full/*.parquet", "sanitized/*.parquet"),
            layout="mbpp.jsonl, or sanitized-mbpp.json, or a folder full/ or sanitized/ with"
            " test-*.parquet and prompt-*.parquet; rows with task_id, text or prompt, code, test_list",
            url="https://github.com/google-research/google-research/tree/master/mbpp",
        ),
        main_metric="pass@1",
        version=1,
        sample_data="samples/mbpp",
    )
    variants = (
        Variant(
            "prompt", "solved examples between [BEGIN] and [DONE], for base models", num_fewshot=3
        ),
        Variant("instruct", "an instruction for chat models; the code is taken from the answer"),
    )

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        return _read(data, "test", TEST)

    def examples(self, data: DataFolder) -> Iterator[Sample]:
        return (s for s in _read(data, "prompt", EXAMPLES) if s.id != "1")

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        if variant == "prompt":
            solved = "".join(f"{_asked(s)}{s.target}\n{END}\n\n" for s in shots)
            return Generate(
                Prompt(_asked(sample), solved, plain=True), Sampling(max_tokens=256, stop=(END,))
            )
        solved = "".join(f"{_instruction(s)}\n```python\n{s.target}\n```\n\n" for s in shots)
        return Generate(Prompt(_instruction(sample), solved), Sampling(max_tokens=1024))

    def program(self, sample: Sample, response: Response, variant: str) -> Program | None:
        answer = response.text if isinstance(response, Generated) else ""
        entry = sample.fields["entry_point"]
        code = cut(answer, (END,)) if variant == "prompt" else code_in(answer, entry)
        if code is None or not code.strip():
            return None
        checks = "\n".join(sample.fields["test_list"])
        return Program(solution=code, checks=checks, entry=entry, preamble=sample.fields["setup"])

    def gold(self, sample: Sample) -> Response:
        return Generated(sample.target)


def _asked(sample: Sample) -> str:
    tests = "\n".join(sample.fields["test_list"][:3])
    return (
        f"You are an expert Python programmer, and here is your task: {sample.fields['text']}"
        f" Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
    )


def _instruction(sample: Sample) -> str:
    tests = "\n".join(sample.fields["test_list"][:3])
    return f"{sample.fields['text']}\nThe code has to pass these tests:\n{tests}\nAnswer with the code alone."


def _read(data: DataFolder, split: str, ids: range) -> Iterator[Sample]:
    for name, number, row in _rows(data, split):
        try:
            problem = msgspec.convert(row, Row)
            sample = _sample(problem)
        except (msgspec.ValidationError, SyntaxError, ValueError) as fault:
            data.reject(name, number, str(fault))
            continue
        if problem.task_id in ids:
            yield sample


def _rows(data: DataFolder, split: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Rows of the file that is there; a Parquet file holds one split, the others all of them."""
    files = ("mbpp.jsonl", "sanitized-mbpp.json")
    tables = tuple(f"{folder}{split}-*.parquet" for folder in ("", "full/", "sanitized/"))
    name = data.path.name if data.path.is_file() else data.first(*files, *tables)
    required = ("task_id", "code", "test_list")
    read = {"parquet": data.parquet, "json": data.array}.get(name.rpartition(".")[2], data.jsonl)
    for number, row in read(name, required):
        yield name, number, row


def _sample(problem: Row) -> Sample:
    text = problem.text or problem.prompt
    if not text or not problem.test_list:
        raise ValueError("no text, or no test")
    return Sample(
        id=str(problem.task_id),
        fields={
            "text": text,
            "test_list": problem.test_list,
            "setup": "\n".join([problem.test_setup_code, *problem.test_imports]),
            "entry_point": _entry(problem),
        },
        target=problem.code,
    )


def _entry(problem: Row) -> str:
    """The function that the tests call: the first name in them that the solution defines."""
    solution = ast.parse(problem.code.replace("\r\n", "\n"))
    defined = {n.name for n in solution.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    for test in problem.test_list:
        for node in ast.walk(ast.parse(test.strip())):
            if isinstance(node, ast.Name) and node.id in defined:
                return node.id
    return ""


TASK = MBPP()
