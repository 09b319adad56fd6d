"""A small task plugin written to a folder, a small engine that answers it, and a silent display.

The quiz asks for sums. The engine really adds up what stands in the prompt, and is wrong by one
wherever the sum ends in 5 or 0, so the tests know every answer without running anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evalsuite.cache import AnswerCache
from evalsuite.contestant import Contestant
from evalsuite.engines.base import Engine, Prepared
from evalsuite.evaluation import Settings, evaluate, new_manifest
from evalsuite.plan import PlannedTask, TaskChoice, plan_task
from evalsuite.record import CheckpointPart, Record, digest
from evalsuite.request import (
    Choose,
    Chosen,
    Failure,
    Generate,
    Generated,
    Request,
    Response,
    Scored,
)
from evalsuite.store import Run

PLUGIN = """
from evalsuite import (
    Choose, DataSource, Generate, Generated, Metric, Outcome, Prompt, Sample, Sampling, Score, Task,
    TaskMeta, Variant,
)


class Quiz(Task):
    meta = TaskMeta(
        name="quiz", title="Quiz", description="Sums", languages=("en",), domain="mathematics",
        licence="Apache-2.0", citation="none",
        source=DataSource(layout="quiz.jsonl", url="https://example.org", sha256=SHA256),
        main_metric="accuracy", version=1, sample_data="sample",
    )
    variants = (Variant("ask"), Variant("sampled"), Variant("choose"), Variant("score"))
    metrics = (Metric("accuracy"), Metric("f1", formula="f1", statistic="overlap"))

    def samples(self, data):
        for number, row in data.jsonl("quiz.jsonl", ("question",)):
            tags = {"group": row["group"]} if "group" in row else {}
            yield Sample(row["id"], {"question": row["question"]}, row.get("answer"), tags,
                         row.get("cluster", ""))

    def examples(self, data):
        for number, row in data.jsonl("dev.jsonl", ("question", "answer")):
            yield Sample(row["id"], {"question": row["question"]}, row["answer"],
                         {"group": row["group"]})

    def example_group(self, sample):
        return sample.tags.get("group", "")

    def request(self, sample, shots, variant):
        prefix = "".join(f"{s.fields['question']}{s.target}\\n" for s in shots)
        prompt = Prompt(sample.fields["question"], prefix)
        if variant == "choose":
            return Choose(prompt, ("A", "B"))
        if variant == "score":
            return Score(prompt, str(sample.target))
        return Generate(prompt, Sampling(max_tokens=16, temperature=0.8 if variant == "sampled" else 0.0))

    def score(self, sample, response):
        text = response.text if isinstance(response, Generated) else ""
        right = float(text == sample.target)
        return Outcome({"accuracy": right, "overlap": [right, 1.0, 1.0]}, text or None)

    def gold(self, sample):
        return Generated(sample.target)


TASK = Quiz()
"""
SCORING = "        right = float(text == sample.target)\n"


def write_quiz(
    folder: Path, *, scoring: str = SCORING, sha256: dict[str, str] | None = None
) -> Path:
    """Write the plugin ``quiz`` into a folder for ``--task-path``; ``scoring`` replaces a line."""
    folder.mkdir(parents=True, exist_ok=True)
    source = PLUGIN.replace(SCORING, scoring).replace("SHA256", repr(sha256 or {}))
    (folder / "quiz.py").write_text(source, encoding="utf-8")
    return folder


def write_rows(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write a JSONL file and return the folder it is in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file.parent


def sums(count: int) -> list[dict[str, Any]]:
    """Rows of different questions: ``0+1=``, ``1+2=``, …, in the groups ``even`` and ``odd``."""
    return [
        {
            "id": f"q{n}",
            "question": f"{n}+{n + 1}=",
            "answer": str(2 * n + 1),
            "group": "odd" if n % 2 else "even",
        }
        for n in range(count)
    ]


def write_sums(folder: Path, count: int) -> list[PlannedTask]:
    """The quiz over :func:`sums`, with its plugin in the same folder, planned."""
    write_quiz(folder)
    return plan_quiz(folder, write_rows(folder / "data" / "quiz.jsonl", sums(count)))


def plan_quiz(
    folder: Path, data: Path | None, variant: str = "ask", **more: Any
) -> list[PlannedTask]:
    choice = TaskChoice(label="quiz", variant=variant, data=data)
    return [plan_task(choice, task_path=(folder,), **more)]


def wrong(sample: str) -> bool:
    """Whether the engine is wrong on this row of :func:`sums`."""
    return (2 * int(sample.removeprefix("q")) + 1) % 5 == 0


class AddingEngine(Engine):
    """Adds up ``A+B=`` at the prompt's end.

    Args:
        breaks_after: raise once this many requests were answered.
        fails_on: questions to which the answer is a failure.
        logprob: what it says of every choice and continuation.

    Attributes:
        asked: the names of all requests that it was asked.
    """

    name = "adding"
    parameters = 2

    def __init__(
        self,
        *,
        breaks_after: int | None = None,
        fails_on: Sequence[str] = (),
        logprob: float = -1.0,
    ) -> None:
        self.breaks_after = breaks_after
        self.fails_on = fails_on
        self.logprob = logprob
        self.asked: list[str] = []
        self.closed = False

    @property
    def description(self) -> dict[str, Any]:
        return {"name": self.name, "version": "1"}

    def prepare(self, names: Sequence[str], requests: Sequence[Request]) -> list[Prepared]:
        return [
            Prepared(name, request, key=digest(request), failure=_unaskable(request))
            for name, request in zip(names, requests, strict=True)
        ]

    def answer(self, prepared: Sequence[Prepared]) -> Iterator[tuple[int, Response | Failure]]:
        for index, item in enumerate(prepared):
            if len(self.asked) == self.breaks_after:
                raise RuntimeError("the device\nwas lost")
            self.asked.append(item.name)
            yield index, self._answer(item.request)

    def _answer(self, request: Request) -> Response | Failure:
        if request.prompt.text in self.fails_on:
            return Failure("out_of_memory", "too large")
        if isinstance(request, Generate):
            found = re.search(r"(\d+)\+(\d+)=$", request.prompt.full)
            total = sum(map(int, found.groups())) if found else 0
            return Generated(str(total + (total % 5 == 0)))
        if isinstance(request, Choose):
            return Chosen(0, (self.logprob,) * len(request.choices))
        return Scored(self.logprob, 1, greedy=True)

    def close(self) -> None:
        self.closed = True


def _unaskable(request: Request) -> Failure | None:
    if "unaskable" in request.prompt.full:
        return Failure("prompt_too_long", "it does not fit")
    return None


class Quiet:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.outlook: Any = None
        self.ended = 0

    def status(self, text: str) -> None:
        pass

    def plan(self, outlook: Any) -> None:
        self.outlook = outlook

    def prompt(self, task: str, sample: str, text: str) -> None:
        pass

    def record(self, record: Record) -> None:
        self.records.append(record)

    def end(self) -> None:
        self.ended += 1

    def results(self, manifest: Any, path: Path) -> None:
        pass


def contestant_of(engine: Engine, fingerprint: str = "f" * 64) -> Contestant:
    part = CheckpointPart(name="adder", source="adder", fingerprint=fingerprint)
    return Contestant(part, {"name": engine.name}, lambda: engine)


def take(
    contestant: Contestant | Engine,
    tasks: Sequence[PlannedTask],
    out: Path,
    *,
    cache: AnswerCache | None = None,
    display: Any = None,
    **settings: Any,
) -> Run:
    """Run tasks on a contestant, as ``evalsuite run`` does."""
    if isinstance(contestant, Engine):
        contestant = contestant_of(contestant)
    chosen = Settings(out=out, **settings)
    return evaluate(
        new_manifest(contestant, tasks, chosen),
        tasks,
        contestant.open_engine,
        chosen,
        cache or AnswerCache(None),
        display or Quiet(),
    )


def by_sample(run: Run) -> dict[str, Record]:
    """The records of a run of one task."""
    records = list(run.records())
    found = {record.sample: record for record in records}
    assert len(found) == len(records), "a sample stands twice"
    return found
