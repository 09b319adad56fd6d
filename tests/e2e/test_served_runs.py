"""``evalsuite run`` on a served model: resumed after the server died, keys kept secret."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from free_port import free_port
from quiz_factory import take
from toy_server import Toy, toy

from evalsuite.compare import compare
from evalsuite.contestant import EngineOptions, find_contestants
from evalsuite.engines._usage import Price
from evalsuite.errors import EngineFailed
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.store import find_runs, open_run

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def planned(*names):
    return [
        plan_task(TaskChoice(label=name), limit=None, seed=0, skip_bad_rows=False, task_path=())
        for name in names
    ]


def contestant(server, **changes):
    options = EngineOptions(engine="openai", server=server.options(**changes))
    [found] = find_contestants(["toy"], options)
    return found


def evalsuite(*arguments, **environment):
    command = [sys.executable, "-m", "evalsuite", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, check=False
    )


def asked(log):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_a_server_that_dies_half_way_costs_nothing_twice(tmp_path):
    """The same command goes on, asks only what has no record, and adds its usage to the first's."""
    tasks, out = planned("mcq", "cmath"), tmp_path / "runs"
    total = sum(len(task.samples) for task in tasks)
    port, price = free_port(), Price(1.0, 1.0)
    first = Toy(port, die_after=50, slow=0.005, log=str(tmp_path / "first"))
    try:
        with pytest.raises(EngineFailed, match="repeat the same command"):
            take(contestant(first, price=price), tasks, out)
    finally:
        first.kill()
    [run] = find_runs(out)
    assert run.manifest.status == "failed"
    assert "what was finished is kept" in run.manifest.warnings[0]
    records = list(run.records())
    assert 10 < len(records) < 50
    assert all(record.error is None for record in records)
    spent = run.manifest.usage
    assert spent["requests"] >= len(records)

    second = Toy(port, log=str(tmp_path / "second"))
    try:
        run = take(contestant(second, price=price), tasks, out)
    finally:
        second.kill()
    assert run.manifest.status == "complete"
    assert len(list(run.records())) == total
    prefixes = run.prefixes()
    texts = {prefixes.get(r.prefix, "") + r.prompt for r in records}
    assert not texts & set(asked(tmp_path / "second")), "a sample with a record was asked again"
    assert run.manifest.usage["requests"] == total
    assert run.manifest.usage["cost"] == pytest.approx(
        (run.manifest.usage["prompt_tokens"] + run.manifest.usage["completion_tokens"]) / 1e6
    )
    assert run.manifest.engine["system_fingerprints"] == ["fp_1"]


def test_other_weights_under_the_same_name_are_another_run(tmp_path):
    tasks, port = planned("mcq"), free_port()
    runs = []
    for weights in ("one", "two", "one"):
        server = Toy(port, weights=weights)
        try:
            runs.append(take(contestant(server), tasks, tmp_path / "runs").path)
        finally:
            server.kill()
    assert runs[0] == runs[2] != runs[1]


def test_written_letters_are_no_log_likelihoods(tmp_path):
    tasks = planned("mcq")
    with toy() as server:
        runs = [
            take(contestant(server, choices=choices), tasks, tmp_path / "runs")
            for choices in ("logprobs", "written")
        ]
    assert runs[0].path != runs[1].path
    assert "choices:written" in runs[1].manifest.signature
    assert "choices:" not in runs[0].manifest.signature
    comparison = compare(*runs)
    assert any("choices were made in another way" in text for text in comparison.warnings)
    answers = [{r.sample: r.answer for r in run.records()} for run in runs]
    # The toy writes the likeliest of four letters; a question of two options may not have it.
    written = {sample: letter for sample, letter in answers[1].items() if letter}
    assert len(written) > 40
    assert written.items() <= answers[0].items()


def test_the_key_is_written_nowhere(tmp_path):
    (tmp_path / "tell.jsonl").write_text(
        "".join(
            json.dumps({"id": k, "category": "qa", "prompt": f"[[{k}]] tell", "reference": "x"})
            + "\n"
            for k in ("telltale", "key", "x")
        )
    )
    with toy(key=SECRET) as server:
        command = ["run", "--base-url", server.url, "--model", "toy", "--tasks", "mcq,open_zh"]
        command += ["--out", str(tmp_path / "runs"), "--key-variable", "MY_KEY"]
        command += ["--data", f"open_zh={tmp_path / 'tell.jsonl'}"]
        wrong = evalsuite(*command, MY_KEY=SECRET.replace("very", "most"))
        assert wrong.returncode == 4
        assert "E301" in wrong.stderr
        assert "MY_KEY" in wrong.stderr
        right = evalsuite(*command, MY_KEY=SECRET)
        assert right.returncode in (0, 3), right.stderr
        assert "used: requests" in right.stderr + right.stdout
    said = wrong.stdout + wrong.stderr + right.stdout + right.stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.name == "run.json" for file in files)
    assert any(file.name == "answers.sqlite" for file in files)
    written = b"".join(file.read_bytes() for file in files)
    assert b"***" in written, "the server told the key, so something was there to be left out"
    for secret in (SECRET, SECRET.replace("very", "most")):
        assert secret not in said
        assert secret.encode() not in written


def test_the_second_command_asks_nothing_again(tmp_path):
    with toy(log=str(tmp_path / "log")) as server:
        command = ["run", "--base-url", server.url, "--model", "toy", "--tasks", "mcq"]
        first = evalsuite(*command, "--out", str(tmp_path / "a"))
        assert first.returncode == 0, first.stderr
        before = asked(tmp_path / "log")
        same = evalsuite(*command, "--out", str(tmp_path / "a"))
        assert "nothing to compute" in same.stderr + same.stdout
        other = evalsuite(*command, "--out", str(tmp_path / "b"))
        assert other.returncode == 0
        again = asked(tmp_path / "log")[len(before) :]
    assert set(again) <= set(before[:40]), "only the probe was asked again"
    [run] = find_runs(tmp_path / "b")
    assert run.manifest.counts["asked"] == 0


def test_an_interrupt_keeps_what_was_finished(tmp_path):
    with toy(slow=0.2) as server:
        command = [
            sys.executable, "-m", "evalsuite", "run", "--base-url", server.url, "--model", "toy",
            "--tasks", "mcq,cmath", "--out", str(tmp_path / "runs"), "--concurrency", "2",
        ]  # fmt: skip
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while not list((tmp_path / "runs").glob("*/records.jsonl")) or not any(
            file.stat().st_size for file in (tmp_path / "runs").glob("*/records.jsonl")
        ):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Resume with" in errors
    [run] = find_runs(tmp_path / "runs")
    assert open_run(run.path).manifest.status == "interrupted"
    assert run.manifest.usage["requests"] >= len(list(run.records())) > 0


def test_a_plan_asks_no_question_of_the_tasks(tmp_path):
    with toy(log=str(tmp_path / "log")) as server:
        arguments = ["run", "--base-url", server.url, "--model", "toy", "--tasks", "mcq,cmath"]
        done = evalsuite(*arguments, "--out", str(tmp_path / "runs"), "--dry-run")
        assert done.returncode == 0, done.stderr
        assert "[user]" in done.stdout + done.stderr
        assert not any("cmath" in prompt or len(prompt) > 60 for prompt in asked(tmp_path / "log"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--engine", "openai"],
        ["--base-url", "http://127.0.0.1:1/v1", "--engine", "transformers"],
        ["--base-url", "http://127.0.0.1:1/v1", "--dtype", "int8"],
        ["--base-url", "http://127.0.0.1:1/v1", "--concurrency", "0"],
        ["--base-url", "http://127.0.0.1:1/v1", "--timeout", "0"],
        ["--base-url", "http://127.0.0.1:1/v1", "--price", "cheap"],
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(options):
    done = evalsuite("run", "--model", "toy", "--tasks", "mcq", *options)
    assert done.returncode == 2, done.stderr
    assert "E102" in done.stderr


def test_the_usual_variable_names_the_server(tmp_path):
    with toy() as server:
        arguments = ["run", "--engine", "openai", "--model", "toy", "--tasks", "mcq"]
        out = ["--out", str(tmp_path / "runs"), "--limit", "4"]
        done = evalsuite(*arguments, *out, OPENAI_BASE_URL=server.url)
    assert done.returncode == 0, done.stderr
