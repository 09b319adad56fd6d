"""Runs that go wrong half-way: nothing is lost, nothing is asked twice, nothing fails in silence."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from quiz_factory import (
    SCORING,
    AddingEngine,
    Quiet,
    by_sample,
    plan_quiz,
    sums,
    take,
    write_quiz,
    write_rows,
    write_sums,
    wrong,
)

from evalsuite.cache import AnswerCache
from evalsuite.errors import EngineFailed
from evalsuite.request import Generated
from evalsuite.rescore import rescore
from evalsuite.runner import prefix_key
from evalsuite.store import find_runs, open_run


def test_every_sample_is_asked_scored_and_written_down(tmp_path):
    engine, display = AddingEngine(), Quiet()
    run = take(engine, write_sums(tmp_path, 20), tmp_path / "out", display=display)
    records = by_sample(run)
    assert sorted(records) == sorted(f"q{n}" for n in range(20))
    for sample, record in records.items():
        total = 2 * int(sample[1:]) + 1
        assert record.response == Generated(str(total + wrong(sample)))
        assert record.scores["accuracy"] == (not wrong(sample))
        assert (record.target, record.prompt) == (str(total), f"{total // 2}+{total // 2 + 1}=")
        assert record.error is None
    expected = sum(not wrong(f"q{n}") for n in range(20)) / 20
    result = run.manifest.results["quiz"]
    assert result.metrics["accuracy"].value == expected
    assert result.metrics["f1"].value == pytest.approx(expected)
    assert result.by_tag["accuracy"]["group"]["odd"].n == 10
    assert [r.sample for r in display.records] == list(records)
    assert (engine.closed, display.ended) == (True, 1)
    assert run.manifest.checkpoint.parameters == engine.parameters
    assert run.manifest.engine == {"name": "adding", "version": "1"}


def test_an_engine_that_breaks_half_way_keeps_what_was_finished(tmp_path):
    tasks, out = write_sums(tmp_path, 12), tmp_path / "out"
    whole = take(AddingEngine(), tasks, tmp_path / "whole")

    broken, display = AddingEngine(breaks_after=7), Quiet()
    with pytest.raises(
        EngineFailed, match=r"RuntimeError: the device was lost.*engine adding"
    ) as e:
        take(broken, tasks, out, display=display)
    assert e.value.exit_code == 4
    assert "\n" not in e.value.one_line()
    assert (broken.closed, display.ended) == (True, 1)
    [run] = find_runs(out)
    assert run.manifest.status == "failed"
    assert "the device was lost" in run.manifest.warnings[0]
    finished = by_sample(run)
    assert [f"quiz/{sample}" for sample in finished] == broken.asked

    mended, display = AddingEngine(), Quiet()
    run = take(mended, tasks, out, display=display)
    assert len(broken.asked) + len(mended.asked) == 12
    assert not set(broken.asked) & set(mended.asked)
    assert (display.outlook.to_ask, display.outlook.tasks[0].waiting) == (5, 5)
    assert by_sample(run) == by_sample(whole)
    assert run.manifest.results == whole.manifest.results
    assert run.manifest.status == "complete"
    assert not any("stopped" in warning for warning in run.manifest.warnings)


def test_an_engine_that_leaves_requests_unanswered_has_failed(tmp_path):
    class Forgetful(AddingEngine):
        def answer(self, prepared):
            yield from super().answer(prepared[:2])

    with pytest.raises(EngineFailed, match="3 requests were never answered"):
        take(Forgetful(), write_sums(tmp_path, 5), tmp_path / "out")


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), SystemExit(1)])
def test_being_stopped_is_not_the_engines_failure(tmp_path, fault):
    class Stopped(AddingEngine):
        def answer(self, prepared):
            yield from super().answer(prepared[:2])
            raise fault

    with pytest.raises(type(fault)):
        take(Stopped(), write_sums(tmp_path, 5), tmp_path / "out")
    [run] = find_runs(tmp_path / "out")
    assert run.manifest.status == (
        "interrupted" if isinstance(fault, KeyboardInterrupt) else "failed"
    )
    assert len(by_sample(run)) == 2


@pytest.mark.parametrize("variant", ["choose", "score"])
@pytest.mark.parametrize("logprob", [math.nan, math.inf, -math.inf])
def test_a_log_likelihood_that_is_no_number_is_an_error_record(tmp_path, variant, logprob):
    write_quiz(tmp_path)
    data = write_rows(tmp_path / "data" / "quiz.jsonl", sums(3))
    cache = AnswerCache(tmp_path / "answers.sqlite")
    tasks = plan_quiz(tmp_path, data, variant)
    run = take(AddingEngine(logprob=logprob), tasks, tmp_path / "out", cache=cache)
    result = run.manifest.results["quiz"]
    assert result.errors == {"engine_failed": 3}
    assert (result.scored, result.metrics["accuracy"].n) == (0, 0)
    assert math.isnan(result.metrics["accuracy"].value)
    for record in by_sample(run).values():
        assert (record.response, record.scores) == (None, {})
    assert any("engine_failed" in warning for warning in run.manifest.warnings)

    sound = AddingEngine(logprob=-2.0)
    again = take(sound, tasks, tmp_path / "out", cache=cache, retry_failed=True)
    assert len(sound.asked) == 3, "a failure came out of the cache"
    assert again.manifest.results["quiz"].errors == {}
    cache.close()


def test_only_failed_samples_are_asked_again(tmp_path):
    tasks, out = write_sums(tmp_path, 8), tmp_path / "out"
    first = take(AddingEngine(fails_on=["2+3=", "5+6="]), tasks, out)
    assert first.manifest.results["quiz"].errors == {"out_of_memory": 2}
    assert first.manifest.results["quiz"].samples == 8
    idle = AddingEngine()
    take(idle, tasks, out)
    assert idle.asked == [], "failed samples are asked again only on request"

    still = AddingEngine(fails_on=["5+6="])
    second = take(still, tasks, out, retry_failed=True)
    assert still.asked == ["quiz/q2", "quiz/q5"]
    assert second.manifest.results["quiz"].errors == {"out_of_memory": 1}

    last = AddingEngine()
    third = take(last, tasks, out, retry_failed=True)
    assert last.asked == ["quiz/q5"]
    fresh = take(AddingEngine(), tasks, tmp_path / "fresh")
    assert by_sample(third) == by_sample(fresh)
    assert third.manifest.results == fresh.manifest.results


def test_a_request_that_cannot_be_asked_is_an_error_record(tmp_path):
    write_quiz(tmp_path)
    rows = [*sums(3), {"id": "long", "question": "unaskable", "answer": "1", "group": "odd"}]
    tasks = plan_quiz(tmp_path, write_rows(tmp_path / "data" / "quiz.jsonl", rows))
    engine, display = AddingEngine(), Quiet()
    run = take(engine, tasks, tmp_path / "out", display=display)
    assert by_sample(run)["long"].error.code == "prompt_too_long"
    assert "quiz/long" not in engine.asked
    assert display.outlook.to_ask == 3
    assert any("cannot be asked" in note for note in display.outlook.notes)


def test_equal_requests_are_asked_once_and_all_recorded(tmp_path):
    write_quiz(tmp_path)
    question = {"question": "2+4=", "answer": "6", "group": "even"}
    rows = [*sums(4), {"id": "same", **question}, {"id": "again", **question, "answer": "7"}]
    data = write_rows(tmp_path / "data" / "quiz.jsonl", rows)
    engine, display = AddingEngine(), Quiet()
    run = take(engine, plan_quiz(tmp_path, data), tmp_path / "out", display=display)
    assert Counter(engine.asked) == Counter(
        ["quiz/q0", "quiz/q1", "quiz/q2", "quiz/q3", "quiz/same"]
    )
    assert display.outlook.to_ask == 5
    records = by_sample(run)
    assert len(records) == 6
    assert records["same"].response == records["again"].response == Generated("6")
    assert (records["same"].scores["accuracy"], records["again"].scores["accuracy"]) == (1, 0)
    assert records["same"].key == records["again"].key
    assert not records["again"].cached, "cached means an earlier run"


FAULTY_SCORERS = {
    "raises": "        right = 1 / 0\n",
    "recurses": "        return self.score(sample, response)\n",
    "nan": "        right = float('nan')\n",
    "infinite": "        right = float('inf')\n",
    "a numpy number": "        import numpy; right = numpy.float64(1)\n",
    "a truth value": "        right = text == sample.target\n",
    "a text": "        right = '1'\n",
    "no number": "        right = None\n",
    "an answer that is no text": "        return Outcome({'accuracy': 1.0, 'overlap': [1.0]}, 7)\n",
    "nan among statistics": "        return Outcome({'accuracy': 1., 'overlap': [float('nan'), 1., 1.]})\n",
    "nan that no metric reads": "        return Outcome({'accuracy': 1., 'overlap': [1., 1., 1.], 'x': float('nan')})\n",
    "a statistic missing": "        return Outcome({'accuracy': 1.0})\n",
    "nothing": "        return None\n",
}


@pytest.mark.parametrize("fault", FAULTY_SCORERS)
def test_a_faulty_scorer_costs_its_samples_and_scoring_again_mends_them(tmp_path, fault):
    """The scorer is wrong on the answer 7 only; the run ends, and the model is not needed again."""
    branch = "".join(
        f"    {line}\n" for line in FAULTY_SCORERS[fault].rstrip("\n").split("\n") if line
    )
    write_quiz(tmp_path, scoring=f"{SCORING}        if text == '7':\n{branch}")
    data = write_rows(tmp_path / "data" / "quiz.jsonl", sums(6))
    run = take(AddingEngine(), plan_quiz(tmp_path, data), tmp_path / "out")
    assert run.manifest.results["quiz"].errors == {"scorer_failed": 1}
    broken = by_sample(open_run(run.path))["q3"]
    assert broken.error is not None
    assert (broken.response, broken.scores, broken.answer) == (Generated("7"), {}, None)

    write_quiz(tmp_path)
    fresh = take(AddingEngine(), plan_quiz(tmp_path, data), tmp_path / "fresh")
    assert rescore(run, {}, (tmp_path,)) == 1
    assert by_sample(run) == by_sample(fresh)
    assert open_run(run.path).manifest.results == fresh.manifest.results
    assert run.manifest.warnings == fresh.manifest.warnings


def test_scores_may_be_whole_numbers(tmp_path):
    write_quiz(tmp_path, scoring="        right = int(text == sample.target)\n")
    data = write_rows(tmp_path / "data" / "quiz.jsonl", sums(6))
    run = take(AddingEngine(), plan_quiz(tmp_path, data), tmp_path / "out")
    assert run.manifest.results["quiz"].errors == {}


def test_shared_prefixes_are_stored_once(tmp_path):
    write_quiz(tmp_path)
    data = write_rows(tmp_path / "data" / "quiz.jsonl", sums(8))
    write_rows(data / "dev.jsonl", [row | {"id": f"dev/{row['id']}"} for row in sums(4)])
    from evalsuite.plan import TaskChoice, plan_task

    planned = plan_task(TaskChoice(label="quiz", num_fewshot=2, data=data), task_path=(tmp_path,))
    run = take(AddingEngine(), [planned], tmp_path / "out")
    prefixes = run.prefixes()
    assert sorted(prefixes.values()) == ["0+1=1\n2+3=5\n", "1+2=3\n3+4=7\n"]
    for request, record in zip(planned.requests, run.records(), strict=True):
        assert prefixes[record.prefix] + record.prompt == request.prompt.full
    assert run.path.joinpath("records.jsonl").read_text().count("2+3=5") == 0
    assert prefix_key("") == ""
    assert prefix_key("\ud800") != prefix_key("?")


def test_the_journal_is_plain_json(tmp_path):
    """Hostile questions and answers stand in files that any reader of JSON lines can read."""
    write_quiz(tmp_path)
    hostile = ["\ud800+1=", "\x00\x1b[2J1+1=", "\u2028\u202e1+2=", "🙂" * 99 + "2+2="]
    rows = [{"id": f"{q}!", "question": q, "answer": q, "group": q} for q in hostile]
    data = write_rows(tmp_path / "data" / "quiz.jsonl", rows)
    run = take(AddingEngine(), plan_quiz(tmp_path, data), tmp_path / "out")
    lines = run.path.joinpath("records.jsonl").read_bytes().split(b"\n")
    read = [json.loads(line) for line in lines[:-1]]
    assert lines[-1] == b""
    assert [row["prompt"] for row in read] == hostile
    assert [row["target"] for row in read] == hostile
    assert set(run.manifest.results["quiz"].by_tag["accuracy"]["group"]) == set(hostile)
    assert str(open_run(run.path).manifest) == str(run.manifest)
    text = run.path.joinpath("run.json").read_text("utf-8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
