"""What the harness itself takes for 10,000 samples, part by part.

    pytest tests/benchmarks --benchmark-only
    pytest tests/benchmarks --benchmark-only --benchmark-autosave; pytest-benchmark compare

Questions are shaped like CMMLU's: five solved examples, then one of some ninety tokens, in the
vocabulary of the shipped ladder. A round takes seconds, so there are three.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from overhead import IdleEngine
from versus_material import write_letters

from evalsuite.agenda import agenda
from evalsuite.cache import AnswerCache
from evalsuite.contestant import Contestant
from evalsuite.evaluation import Settings, new_manifest
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.record import CheckpointPart, Record
from evalsuite.request import Chosen
from evalsuite.scoring import Scorer
from evalsuite.store import Journal, Run
from evalsuite.summary import summarise

SUBJECTS = ["agronomy", "anatomy", "arts", "astronomy"]
SAMPLES = 10_000
ROUNDS = 3


@pytest.fixture(scope="module")
def choice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cmmlu")
    write_letters(folder, SUBJECTS, SAMPLES // len(SUBJECTS))
    return TaskChoice(label="cmmlu", variant="lm-eval", data=folder)


@pytest.fixture(scope="module")
def planned(choice):
    return plan_task(choice)


@pytest.fixture(scope="module")
def engine():
    return IdleEngine()


@pytest.fixture(scope="module")
def records(planned):
    """Every sample answered, the first option each time."""
    answer = Chosen(0, (-1.0, -2.0, -3.0, -4.0), (1, 1, 1, 1), 500)
    return [
        scored
        for sample, request in zip(planned.samples, planned.requests, strict=True)
        for _, scored in Scorer().add(
            planned,
            sample,
            Record(
                task="cmmlu",
                sample=sample.id,
                tags=sample.tags,
                key="0" * 64,
                prompt=request.prompt.text,
                response=answer,
            ),
            None,
        )
    ]


@pytest.fixture(scope="module")
def manifest(planned, engine, tmp_path_factory):
    part = CheckpointPart(name="idle", source="idle", fingerprint="0" * 64)
    settings = Settings(out=tmp_path_factory.mktemp("out"))
    return new_manifest(Contestant(part, {"name": "idle"}, lambda: engine), [planned], settings)


def test_planning(benchmark, choice):
    """Reading the data and writing every prompt once."""
    found = benchmark.pedantic(plan_task, (choice,), rounds=ROUNDS)
    assert len(found.requests) == SAMPLES


def test_tokenising(benchmark, planned, engine):
    """From requests to token ids, checked, and looked for in the cache."""
    found = benchmark.pedantic(
        agenda, ([planned], engine, AnswerCache(None), {}), rounds=ROUNDS, warmup_rounds=1
    )
    assert found.to_ask == SAMPLES


def test_appending_to_the_journal(benchmark, manifest, records, tmp_path_factory):
    """One write a record, as while a run goes on."""

    def setup():
        return (Journal(tmp_path_factory.mktemp("run"), manifest),), {}

    def append(journal):
        for record in records:
            journal.append([record])
        journal.close()

        appended.append(journal.folder)

    appended = []
    benchmark.pedantic(append, setup=setup, rounds=ROUNDS)
    assert sum(1 for _ in Run(appended[-1], manifest).records()) == SAMPLES


def test_scoring(benchmark, planned, records):
    """The task's own scorer, and the check of what it returns."""
    pairs = list(zip(planned.samples, records, strict=True))

    def score():
        scorer = Scorer()
        return [
            scored
            for sample, record in pairs
            for _, scored in scorer.add(planned, sample, record, None)
        ]

    assert benchmark.pedantic(score, rounds=ROUNDS) == records


def test_statistics(benchmark, planned, records):
    """Every metric, overall and by tag, with its interval."""
    found = benchmark.pedantic(summarise, (planned.part, records), rounds=ROUNDS, warmup_rounds=1)
    assert found.scored == SAMPLES


def test_reading_a_run(benchmark, manifest, records, tmp_path):
    """All records of a run, decoded."""
    with Journal(tmp_path / "run", manifest) as journal:
        journal.append(records)
    run = Run(tmp_path / "run", manifest)
    found = benchmark.pedantic(lambda: list(run.records()), rounds=ROUNDS)
    assert len(found) == SAMPLES
