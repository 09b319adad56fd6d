"""A checkpoint through tasks: what may not change its scores, and whose answers are whose."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from quiz_factory import (
    AddingEngine,
    by_sample,
    contestant_of,
    plan_quiz,
    sums,
    take,
    write_quiz,
    write_rows,
    write_sums,
)

from evalsuite.cache import AnswerCache
from evalsuite.contestant import EngineOptions, find_contestants
from evalsuite.evaluation import Settings, finished_run, new_manifest
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.record import digest
from evalsuite.request import Chosen
from evalsuite.store import find_runs

SAMPLES = Path(__file__).parent.parent / "tasks" / "samples"
CHOICES = "mcq"
LABELS = "classification_zh"
MANY_TOKENS = "labels"
"""Classification by log-likelihood: each choice is several tokens."""


def planned(mcq: Path, classification: Path, quiz: Path):
    """Choices of one token, choices of several after a shared prefix, greedy and sampled texts."""

    def plan(label: str, limit: int, **more):
        return plan_task(TaskChoice(label=label, **more), task_path=(quiz,), limit=limit, seed=3)

    choose = plan(LABELS, 8, data=classification, variant="choose", num_fewshot=2)
    renamed = msgspec.structs.replace(choose.part, name=MANY_TOKENS)
    return [
        plan(CHOICES, 16, data=mcq),
        plan(LABELS, 8, data=classification),
        plan("quiz", 12, data=quiz / "data", variant="sampled"),
        msgspec.structs.replace(choose, part=renamed),
    ]


@pytest.fixture(scope="module")
def ordered(tmp_path_factory):
    quiz = write_quiz(tmp_path_factory.mktemp("ordered"))
    write_rows(quiz / "data" / "quiz.jsonl", sums(30))
    return planned(SAMPLES / "mcq" / "questions.jsonl", SAMPLES / "classification_zh", quiz)


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory):
    """The same rows with the same ids in another order."""
    folder = tmp_path_factory.mktemp("shuffled")

    def shuffle(source: Path, target: Path) -> None:
        rows = source.read_text("utf-8").splitlines(keepends=True)
        random.Random(7).shuffle(rows)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(rows), "utf-8")

    write_quiz(folder)
    write_rows(folder / "ordered.jsonl", sums(30))
    shuffle(folder / "ordered.jsonl", folder / "data" / "quiz.jsonl")
    shuffle(SAMPLES / "mcq" / "questions.jsonl", folder / "questions.jsonl")
    shutil.copytree(SAMPLES / "classification_zh", folder / "labels")
    shuffle(SAMPLES / "classification_zh" / "test.jsonl", folder / "labels" / "test.jsonl")
    return planned(folder / "questions.jsonl", folder / "labels", folder)


@pytest.fixture(scope="module")
def runs(roomy_checkpoint_path, ordered, shuffled, tmp_path_factory):
    """The same questions, in batches of three sizes and in another order; nothing is cached."""
    out = tmp_path_factory.mktemp("out")

    def run(name, tasks, batch_tokens):
        options = EngineOptions(batch_tokens=batch_tokens, device="cpu", dtype="float32")
        [contestant] = find_contestants([str(roomy_checkpoint_path)], options)
        return take(contestant, tasks, out / name, seed=3)

    found = {str(size): run(str(size), ordered, size) for size in (64, 256, 4096)}
    return found | {"shuffled": run("shuffled", shuffled, 4096)}


@pytest.mark.parametrize("other", ["64", "4096", "shuffled"])
def test_answers_depend_neither_on_the_batch_nor_on_the_order(runs, other):
    reference = {(r.task, r.sample): r for r in runs["256"].records()}
    found = {(r.task, r.sample): r for r in runs[other].records()}
    assert found.keys() == reference.keys()
    assert len(found) == 16 + 8 + 12 + 8
    for place, record in found.items():
        twin = reference[place]
        assert (record.error, record.key, record.prompt) == (None, twin.key, twin.prompt), place
        assert (record.scores, record.answer) == (twin.scores, twin.answer), place
        if isinstance(record.response, Chosen):
            assert record.response.picked == twin.response.picked, place
            assert record.response.logprobs == pytest.approx(twin.response.logprobs, abs=1e-4)
        else:
            assert record.response == twin.response, place
    results, expected = (run.manifest.results for run in (runs[other], runs["256"]))
    for task in (CHOICES, LABELS, MANY_TOKENS, "quiz"):
        assert results[task] == expected[task]


def test_the_questions_are_a_fair_test_of_that(runs):
    """Answers differ from question to question, and several tokens are scored and generated."""
    records = list(runs["256"].records())
    picked = {(r.task, r.response.picked) for r in records if isinstance(r.response, Chosen)}
    assert len({place for task, place in picked if task == CHOICES}) > 1
    assert len({place for task, place in picked if task == MANY_TOKENS}) > 1
    labels = [r.response for r in records if r.task == MANY_TOKENS]
    assert max(max(response.token_counts) for response in labels) > 1
    texts = [r.response.text for r in records if r.task in (LABELS, "quiz")]
    assert len(set(texts)) > len(texts) // 2


def test_choosing_is_the_log_likelihood_of_a_plain_forward_pass(runs, roomy_checkpoint_path):
    """Three questions against transformers itself, without our batching, prefixes or caches."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(roomy_checkpoint_path)
    model = AutoModelForCausalLM.from_pretrained(roomy_checkpoint_path).eval()
    chosen = [r for r in runs["256"].records() if r.task == CHOICES][:3]
    for record in chosen:
        before = tokenizer(record.prompt).input_ids
        for letter, logprob in zip("ABCDEFGHIJ", record.response.logprobs, strict=False):
            ids = tokenizer(record.prompt + letter).input_ids
            assert ids[: len(before)] == before
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            total = sum(
                logits[place - 1, ids[place]].item() for place in range(len(before), len(ids))
            )
            assert logprob == pytest.approx(total, abs=1e-4)


def test_other_weights_in_the_same_place_never_get_the_old_answers(
    checkpoint_path, other_checkpoint_path, tmp_path
):
    place, file = tmp_path / "latest", tmp_path / "answers.sqlite"
    shutil.copytree(checkpoint_path, place)
    tasks = [plan_task(TaskChoice(label=LABELS, variant="choose"), limit=8)]

    def run(model: Path, out: str, *, cached: bool = True):
        [contestant] = find_contestants([str(model)], EngineOptions())
        cache = AnswerCache(file if cached else None)
        try:
            return take(contestant, tasks, tmp_path / out, cache=cache)
        finally:
            cache.close()

    first = run(place, "runs")
    shutil.copy(other_checkpoint_path / "model.safetensors", place / "model.safetensors")
    second = run(place, "runs")
    assert second.manifest.counts == {"asked": 8, "from_cache": 0}
    assert second.path != first.path
    own = by_sample(run(other_checkpoint_path, "own", cached=False))
    old = by_sample(first)
    for sample, record in by_sample(second).items():
        assert record.key not in {r.key for r in old.values()}
        assert record.response.logprobs == pytest.approx(own[sample].response.logprobs, abs=1e-6)
        assert record.response.logprobs != pytest.approx(old[sample].response.logprobs, abs=1e-2)
    third = run(place, "again")
    assert third.manifest.counts == {"asked": 0, "from_cache": 8}
    assert third.manifest.results == second.manifest.results


def test_the_run_of_a_command_is_found_again_and_no_other(tmp_path):
    """The folder's name changes with all that decides an answer, and with nothing else."""
    write_quiz(tmp_path)
    data = write_rows(tmp_path / "data" / "quiz.jsonl", sums(9))
    write_rows(data / "dev.jsonl", sums(12)[9:] + sums(15)[12:])
    adder = contestant_of(AddingEngine())

    def name(contestant=adder, *, seed=0, limit=None, variant="ask", shots=None, **settings):
        choice = TaskChoice(label="quiz", variant=variant, data=data, num_fewshot=shots)
        tasks = [plan_task(choice, task_path=(tmp_path,), seed=seed, limit=limit)]
        chosen = Settings(out=tmp_path, seed=seed, limit=limit, **settings)
        return new_manifest(contestant, tasks, chosen).run_id

    same = name()
    assert name(command=("evalsuite", "run"), retry_failed=True) == same
    assert name(limit=9) == same, "a limit that leaves nothing out"
    part, engine = adder.part, adder.engine
    renamed = msgspec.structs.replace(part, source="/elsewhere", stage="sft")
    assert name(msgspec.structs.replace(adder, part=renamed)) == same
    others = [
        name(seed=1),
        name(limit=4),
        name(limit=4, seed=1),
        name(variant="sampled"),
        name(shots=2),
        name(contestant_of(AddingEngine(), fingerprint="0" * 64)),
        name(msgspec.structs.replace(adder, engine=engine | {"dtype": "float16"})),
        name(msgspec.structs.replace(adder, part=msgspec.structs.replace(part, chat_template="x"))),
    ]
    write_rows(data / "quiz.jsonl", sums(10))
    others.append(name())
    assert len({same, *others}) == 10


@pytest.mark.parametrize(
    "name", ["../../etc", ".hidden", "a/b\x00c", "\ud800", "中文" * 99, "", "-x", "\x1b[2J"]
)
def test_a_hostile_name_stays_inside_the_folder_of_runs(tmp_path, name):
    contestant = contestant_of(AddingEngine())
    part = msgspec.structs.replace(contestant.part, name=name)
    hostile = msgspec.structs.replace(contestant, part=part)
    run = take(hostile, write_sums(tmp_path, 2), tmp_path / "out")
    assert [p.resolve() for p in (tmp_path / "out").iterdir()] == [run.path.resolve()]
    assert not run.path.name.startswith((".", "-"))
    assert find_runs(tmp_path / "out")[0].manifest.checkpoint.name == name


def test_a_finished_run_is_only_taken_up_again_to_retry(tmp_path):
    tasks, out = write_sums(tmp_path, 4), tmp_path / "out"
    contestant = contestant_of(AddingEngine())
    settings = Settings(out=out)
    manifest = new_manifest(contestant, tasks, settings)
    assert finished_run(manifest, settings) is None
    run = take(contestant, tasks, out)
    found = finished_run(manifest, settings)
    assert found is not None
    assert found.manifest == run.manifest
    assert finished_run(manifest, Settings(out=out, retry_failed=True)) is None
    run.manifest.status = "interrupted"
    run.path.joinpath("run.json").write_bytes(msgspec.json.encode(run.manifest))
    assert finished_run(manifest, settings) is None


def test_an_engine_that_does_not_open_leaves_a_failed_run_that_goes_on(tmp_path):
    tasks, out = write_sums(tmp_path, 4), tmp_path / "out"
    sound = contestant_of(AddingEngine())

    def refuse():
        raise MemoryError("no room")

    with pytest.raises(MemoryError):
        take(msgspec.structs.replace(sound, open_engine=refuse), tasks, out)
    [run] = find_runs(out)
    assert run.manifest.status == "failed"
    assert "no room" in run.manifest.warnings[0]
    created = run.manifest.created
    run = take(sound, tasks, out)
    assert (run.manifest.status, run.manifest.created) == ("complete", created)


def test_the_manifest_says_what_a_run_was_made_of(runs, ordered, roomy_checkpoint_path):
    manifest = runs["256"].manifest
    assert manifest.status == "complete"
    assert manifest.checkpoint.name == roomy_checkpoint_path.name
    assert manifest.engine["device"] == "cpu"
    assert manifest.engine["dtype"] == "float32"
    assert {"python", "torch", "transformers", "platform"} <= manifest.environment.keys()
    assert manifest.counts["asked"] == len({r.key for r in runs["256"].records()})
    seconds, first = manifest.seconds, manifest.first_forward
    assert set(seconds) == {"start", "load", "plan", "prefill", "decode", "score"}
    before = sum(seconds[phase] for phase in ("start", "load", "plan"))
    assert before <= first["wall"] + 0.01 <= sum(seconds.values()) + 0.02
    for part, task in zip(manifest.tasks, ordered, strict=True):
        assert part.sample_ids_sha256 == digest([s.id for s in task.samples])
        assert manifest.results[part.name].samples == len(task.samples)
    assert len(manifest.signature.splitlines()) == 4


def test_truncated_answers_and_sample_sets_are_pointed_out(runs, capsys):
    """Random weights never end a text by themselves: every sampled answer is cut off."""
    records = [r for r in runs["256"].records() if r.task == "quiz"]
    cut = sum(r.response.finish_reason == "length" for r in records)
    result = runs["256"].manifest.results["quiz"]
    assert result.truncated == cut > 0
    assert any(w.startswith("quiz") and str(cut) in w for w in runs["256"].manifest.warnings)


def test_processes_that_share_a_cache_and_an_output_folder(tmp_path):
    """Four runs of four files of answers at once: all end, each with its own answers."""
    rows = sums(20)
    write_quiz(tmp_path)
    data = write_rows(tmp_path / "data" / "quiz.jsonl", rows)
    processes = []
    for number in range(4):
        answers = [
            {"id": row["id"], "output": row["answer"] if n % 4 >= number else "?"}
            for n, row in enumerate(rows)
        ]
        write_rows(tmp_path / f"model-{number}.jsonl", answers)
        command = [
            sys.executable, "-m", "evalsuite", "run", "--tasks", "quiz",
            "--model", f"replay:{tmp_path / f'model-{number}.jsonl'}",
            "--data", f"quiz={data}", "--task-path", str(tmp_path), "--out", str(tmp_path / "out"),
        ]  # fmt: skip
        environment = os.environ | {"EVALSUITE_HOME": str(tmp_path / "home")}
        processes.append(
            subprocess.Popen(
                command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    found = {
        r.manifest.checkpoint.name: r.manifest.results["quiz"] for r in find_runs(tmp_path / "out")
    }
    values = {name: result.metrics["accuracy"].value for name, result in found.items()}
    assert values == {f"model-{number}": 1 - number / 4 for number in range(4)}
    assert plan_quiz(tmp_path, data)[0].part.samples == 20
    json.loads((find_runs(tmp_path / "out")[0].path / "run.json").read_text("utf-8"))
