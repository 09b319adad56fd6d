"""HumanEval, MBPP and HumanEval-X: prompts, and programs that are really run."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from quiz_factory import by_sample, take
from sandboxes import needs_bubblewrap

from evalsuite.engines.base import Engine, Prepared
from evalsuite.errors import BadOption, BadRow, DataMissing
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.record import digest
from evalsuite.registry import load_task
from evalsuite.request import Generate, Generated

TASKS = Path(__file__).parents[2] / "tasks"
NAMES = ("humaneval", "mbpp", "humaneval_x")


class Answering(Engine):
    """Gives each sample the answer of a function of its id."""

    name = "answering"
    parameters = None

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    @property
    def description(self) -> dict[str, Any]:
        return {"name": self.name}

    def prepare(self, names: Sequence[str], requests: Sequence[Any]) -> list[Prepared]:
        return [
            Prepared(name, request, key=digest([name, request]))
            for name, request in zip(names, requests, strict=True)
        ]

    def answer(self, prepared: Sequence[Prepared]) -> Any:
        for index, item in enumerate(prepared):
            yield index, Generated(self._answer(item.name.partition("/")[2]))

    def close(self) -> None: ...


def gold(name: str) -> Any:
    plan = plan_task(TaskChoice(label=name))
    targets = {sample.id: sample.target for sample in plan.samples}
    return lambda sample: targets[sample.partition("#")[0]]


@needs_bubblewrap
@pytest.mark.parametrize("name", NAMES)
def test_reference_solutions_pass_and_empty_ones_do_not(name: str, tmp_path: Path) -> None:
    plan = [plan_task(TaskChoice(label=name))]
    run = take(Answering(gold(name)), plan, tmp_path / "right")
    assert run.manifest.results[name].metrics["pass@1"].value == 1.0
    assert "bubblewrap" in run.manifest.sandbox
    run = take(Answering(lambda _: "    return None\n"), plan, tmp_path / "wrong")
    assert run.manifest.results[name].metrics["pass@1"].value == 0.0
    run = take(Answering(lambda _: ""), plan, tmp_path / "empty")
    assert run.manifest.results[name].metrics["pass@1"].value == 0.0
    assert {r.note for r in by_sample(run).values()} == {"no program in the answer"}


@needs_bubblewrap
def test_a_record_says_how_its_program_ended(tmp_path: Path) -> None:
    answers = {
        "sample/0": "    return 'a'\n",
        "sample/1": "    import os\n    os._exit(0)\n",
        "sample/2": "    return 1 / 0\n",
        "sample/4": "    return open('/etc/passwd').read()\n",
        "sample/5": "    import socket\n    socket.create_connection(('127.0.0.1', 80))\n",
        "sample/6": "    return [0] * 10**10\n",
    }
    plan = [plan_task(TaskChoice(label="humaneval"))]
    run = take(Answering(lambda sample: answers.get(sample, "    pass\n")), plan, tmp_path)
    notes = {sample: record.note for sample, record in by_sample(run).items()}
    assert notes["sample/0"].startswith("failed: AssertionError")
    assert 'assert candidate("a long road home")' in notes["sample/0"]
    assert "exited with 0" in notes["sample/1"]
    assert "ZeroDivisionError" in notes["sample/2"]
    assert "Error: [Errno" in notes["sample/4"]
    assert notes["sample/5"].startswith("failed")
    assert notes["sample/6"].startswith("out_of_memory")
    assert run.manifest.results["humaneval"].metrics["pass@1"].value == 0.0
    assert by_sample(run)["sample/0"].answer.endswith("    return 'a'\n")


@needs_bubblewrap
def test_several_answers_a_problem_give_pass_at_k_as_by_counting(tmp_path: Path) -> None:
    """Of 10 answers to each problem some pass; pass@10 is the share of problems with any."""
    right = gold("humaneval")

    def answer(sample: str) -> str:
        problem, number = sample.removeprefix("sample/").split("#")
        return right(sample) if int(number) <= int(problem) // 2 else "    pass\n"

    plan = [
        plan_task(TaskChoice(label="humaneval"), sampling=decoding("temperature=0.8,samples=10"))
    ]
    assert len({r.sampling.seed for r in plan[0].requests if isinstance(r, Generate)}) == 80
    run = take(Answering(answer), plan, tmp_path)
    result = run.manifest.results["humaneval"]
    assert result.samples == 80
    assert result.metrics["pass@1"].value == pytest.approx((0 + 0 + 1 + 1 + 2 + 2 + 3 + 3) / 80)
    assert result.metrics["pass@10"].value == pytest.approx(6 / 8)
    assert result.metrics["pass@10"].n == 8
    assert "clustered" in result.metrics["pass@1"].method


def decoding(text: str) -> Any:
    from evalsuite.decoding import parse_decoding

    return parse_decoding(text)


def test_several_greedy_answers_are_refused() -> None:
    with pytest.raises(BadOption, match="always the same"):
        plan_task(TaskChoice(label="humaneval"), sampling=decoding("samples=3"))
    with pytest.raises(BadOption, match="always the same"):
        plan_task(TaskChoice(label="mcq"), sampling=decoding("samples=3,temperature=1"))


def test_mbpp_is_asked_as_lm_eval_asks_it() -> None:
    """lm-eval's own templates, rendered by jinja2, over the same rows."""
    folder = Path(importlib.util.find_spec("lm_eval").submodule_search_locations[0])
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!function", lambda _, node: node.value)
    config = yaml.load((folder / "tasks" / "mbpp" / "mbpp.yaml").read_text("utf-8"), loader)
    ask, solve = (
        jinja2.Template(config[k], keep_trailing_newline=True)
        for k in ("doc_to_text", "doc_to_target")
    )
    rows = {
        row["task_id"]: row
        for line in (TASKS / "samples/mbpp/mbpp.jsonl").read_text("utf-8").splitlines()
        for row in [json.loads(line)]
    }
    shots = "".join(
        ask.render(**rows[n]) + solve.render(**rows[n], is_fewshot=True) + "\n\n" for n in (2, 3, 4)
    )
    plan = plan_task(TaskChoice(label="mbpp"))
    assert plan.part.num_fewshot == config["num_fewshot"]
    for sample, request in zip(plan.samples, plan.requests, strict=True):
        assert request.prompt.full == shots + ask.render(**rows[int(sample.id)])
        assert list(request.sampling.stop) == config["generation_kwargs"]["until"]


def test_humaneval_ends_where_lm_eval_ends() -> None:
    folder = Path(importlib.util.find_spec("lm_eval").submodule_search_locations[0])
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!function", lambda _, node: node.value)
    text = (folder / "tasks" / "humaneval" / "humaneval.yaml").read_text("utf-8")
    config = yaml.load(text, loader)
    plan = plan_task(TaskChoice(label="humaneval"))
    assert list(plan.requests[0].sampling.stop) == config["generation_kwargs"]["until"]
    assert plan.requests[0].prompt.full == plan.samples[0].fields["prompt"]


def test_published_layouts_are_read(tmp_path: Path) -> None:
    rows = (TASKS / "samples/humaneval/HumanEval.jsonl").read_bytes()
    (tmp_path / "HumanEval.jsonl.gz").write_bytes(gzip.compress(rows))
    packed = plan_task(TaskChoice(label="humaneval", data=tmp_path))
    assert [s.fields for s in packed.samples] == [
        s.fields for s in plan_task(TaskChoice(label="humaneval")).samples
    ]
    full = [
        json.loads(line)
        for line in (TASKS / "samples/mbpp/mbpp.jsonl").read_text("utf-8").splitlines()
    ]
    sanitised = [
        {"prompt" if k == "text" else k: v for k, v in row.items() if k != "test_setup_code"}
        | {"test_imports": ["import math"], "source_file": "x"}
        for row in full
    ]
    file = tmp_path / "sanitized-mbpp.json"
    file.write_text(json.dumps(sanitised), encoding="utf-8")
    read = plan_task(TaskChoice(label="mbpp", data=file))
    assert [s.fields["text"] for s in read.samples] == [
        r["text"] for r in full if r["task_id"] > 10
    ]
    assert all("import math" in s.fields["setup"] for s in read.samples)


@pytest.mark.parametrize(
    ("task", "file", "content", "fault", "message"),
    [
        ("humaneval", "HumanEval.jsonl.gz", gzip.compress(b"x" * 99, mtime=0)[:-9], BadRow, "not a whole gzip"),
        ("humaneval", "HumanEval.jsonl", b'{"task_id": "a"}\n', BadRow, "no prompt"),
        ("humaneval", "HumanEval.jsonl", b"", DataMissing, "no samples"),
        ("mbpp", "sanitized-mbpp.json", b"{}", BadRow, "not a JSON array"),
        ("mbpp", "sanitized-mbpp.json", b"[1]", BadRow, "not a JSON object"),
        ("mbpp", "mbpp.jsonl", b'{"task_id": 11, "code": "def (", "test_list": ["1"], "text": "t"}\n', BadRow, "mbpp.jsonl:1"),
        ("humaneval_x", "humaneval.jsonl", b'{"task_id": "CPP/0", "prompt": "int f() {", "canonical_solution": "}", "test": ""}\n', BadRow, "not a Python problem"),
    ],
)  # fmt: skip
def test_bad_data_is_named(
    task: str, file: str, content: bytes, fault: type, message: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(fault, match=message):
        plan_task(TaskChoice(label=task, data=tmp_path))


def test_a_code_task_has_no_score_without_running() -> None:
    task = load_task("humaneval")
    sample = plan_task(TaskChoice(label="humaneval")).samples[0]
    with pytest.raises(TypeError, match="running"):
        task.score(sample, Generated("    pass"))
