"""Many jobs, window after window: the same answers, each asked once, shared prefixes together."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from quiz_factory import (
    AddingEngine,
    Quiet,
    by_sample,
    plan_quiz,
    sums,
    take,
    write_quiz,
    write_rows,
)

from evalsuite import agenda as agenda_module
from evalsuite import plan, runner, shelf
from evalsuite.agenda import agenda
from evalsuite.cache import AnswerCache
from evalsuite.errors import EngineFailed
from evalsuite.plan import Requests, TaskChoice, plan_task


@pytest.fixture
def small(monkeypatch):
    """Windows of four jobs, lists of three items, portions of five requests."""
    monkeypatch.setattr(shelf, "IN_MEMORY", 3)
    monkeypatch.setattr(plan, "IN_MEMORY", 3)
    monkeypatch.setattr(runner, "WINDOW", 4)
    monkeypatch.setattr(agenda_module, "WINDOW", 4)
    monkeypatch.setattr(agenda_module, "_PORTION", 5)


def rows_with_repeats(count):
    """Every third question is that of the first row, in other words all the same request."""
    rows = sums(count)
    for row in rows[::3]:
        row |= {"question": rows[0]["question"], "answer": rows[0]["answer"]}
    return rows


def quiz(folder, variant="ask", count=23):
    write_quiz(folder)
    data = write_rows(folder / "data" / "quiz.jsonl", rows_with_repeats(count))
    write_rows(data / "dev.jsonl", [row | {"id": f"dev/{row['id']}"} for row in sums(4)])
    choice = TaskChoice(label="quiz", variant=variant, data=data, num_fewshot=2)
    return [plan_task(choice, task_path=(folder,))]


@pytest.mark.parametrize("variant", ["ask", "choose", "sampled"])
def test_windows_change_nothing(tmp_path, request, variant):
    whole_engine, engine, display = AddingEngine(), AddingEngine(), Quiet()
    plain = quiz(tmp_path, variant)
    whole = take(whole_engine, plain, tmp_path / "whole")
    request.getfixturevalue("small")
    planned = quiz(tmp_path, variant)
    assert isinstance(planned[0].requests, Requests)
    assert list(planned[0].requests) == list(plain[0].requests)
    assert planned[0].requests_sha256 == plain[0].requests_sha256
    run = take(engine, planned, tmp_path / "out", display=display)
    assert run.manifest.run_id == whole.manifest.run_id
    assert by_sample(run) == by_sample(whole)
    assert run.manifest.results == whole.manifest.results
    assert run.manifest.counts == whole.manifest.counts
    assert run.prefixes() == whole.prefixes()
    assert len(engine.asked) == len(whole_engine.asked) == display.outlook.to_ask
    assert not any(record.cached for record in run.records())


def test_a_failure_is_not_asked_again_in_a_later_window(tmp_path, small):
    engine = AddingEngine(fails_on=["0+1="])
    run = take(engine, quiz(tmp_path), tmp_path / "out")
    assert Counter(engine.asked).most_common(1)[0][1] == 1
    assert run.manifest.results["quiz"].errors == {"out_of_memory": 8}


def test_a_broken_engine_keeps_earlier_windows_and_resumes(tmp_path, small):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    broken, mended = AddingEngine(breaks_after=9), AddingEngine()
    with pytest.raises(EngineFailed):
        take(broken, quiz(tmp_path), tmp_path / "out", cache=cache)
    run = take(mended, quiz(tmp_path), tmp_path / "out", cache=AnswerCache(None))
    whole = take(AddingEngine(), quiz(tmp_path), tmp_path / "whole")
    assert by_sample(run) == by_sample(whole)
    idle = AddingEngine()
    again = take(idle, quiz(tmp_path), tmp_path / "again", cache=cache)
    assert not set(idle.asked) & set(broken.asked), "answers before the fault are in the cache"
    assert again.manifest.counts["from_cache"] == 9
    cache.close()


def test_jobs_that_share_a_prefix_are_neighbours(tmp_path, small):
    jobs = agenda(quiz(tmp_path), AddingEngine(), AnswerCache(None), {}).jobs
    prefixes = [job.prepared.request.prompt.prefix for job in jobs]
    changes = sum(one != other for one, other in pairwise(prefixes))
    assert changes == len(set(prefixes)) - 1 == 1
    assert sorted(job.sample.id for job in jobs) == sorted(f"q{n}" for n in range(23))
    assert [job.sample.id for job in jobs[3:9]] == [jobs[at].sample.id for at in range(3, 9)]


def test_few_jobs_keep_the_plans_order(tmp_path):
    planned = quiz(tmp_path)
    jobs = agenda(planned, AddingEngine(), AnswerCache(None), {}).jobs
    assert [job.sample.id for job in jobs] == [sample.id for sample in planned[0].samples]


def test_many_lines_of_replayed_text_are_dealt_as_one(tmp_path, small):
    from evalsuite.engines.replay import ReplayEngine

    write_quiz(tmp_path)
    planned = plan_quiz(tmp_path, write_rows(tmp_path / "data" / "quiz.jsonl", sums(23)))
    file = tmp_path / "answers.txt"
    file.write_text("".join(f"{2 * n + 1}\n" for n in range(23)))
    run = take(ReplayEngine(file), planned, tmp_path / "out")
    assert run.manifest.results["quiz"].metrics["accuracy"].value == 1
