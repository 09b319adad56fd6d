"""The command line as a user meets it: real processes, real checkpoints, real mistakes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import evalsuite
from evalsuite.store import find_runs

ROOT = Path(__file__).parent.parent.parent
SAMPLES = ROOT / "tasks" / "samples"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def call(home):
    def call(*arguments: object, cwd: Path | None = None, **environment: str):
        return subprocess.run(
            [sys.executable, "-m", "evalsuite", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=os.environ | {"EVALSUITE_HOME": str(home), "OMP_NUM_THREADS": "1"} | environment,
            cwd=cwd,
            timeout=300,
            check=False,
        )

    return call


def assert_refused(done, exit_code: int, *words: str) -> None:
    """One line on standard error, no traceback, and it says these words."""
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr
    complaint = done.stderr.strip().splitlines()[-1]
    assert complaint.startswith("evalsuite: ")
    for word in words:
        assert word in complaint


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tasks", "cmlu"], ["E101", "cmlu", "did you mean 'cmmlu'"]),
        (["--tasks", ""], ["E102", "--tasks"]),
        (["--tasks", "mgsm/xx"], ["E101", "xx", "mgsm"]),
        (["--tasks", "cmmlu/agronom"], ["E101", "did you mean"]),
        (["--tasks", "cmmlu", "--variant", "cmmlu=oficial"], ["E101", "'official'"]),
        (["--tasks", "cmmlu", "--variant", "official"], ["E102", "TASK=VALUE"]),
        (["--tasks", "cmmlu", "--data", "cmmlu=/no/such/folder"], ["E111", "/no/such/folder"]),
        (["--tasks", "cmmlu", "--data", "cmlu=/tmp"], ["E101", "did you mean 'cmmlu'"]),
        (["--tasks", "cmmlu", "--limit", "0"], ["E102", "--limit"]),
        (["--tasks", "cmmlu", "--num-fewshot", "99"], ["E102", "99", "--num-fewshot cmmlu=5"]),
        (["--tasks", "cmmlu", "--num-fewshot", "two"], ["E102", "two"]),
        (["--tasks", "cmmlu", "--engine", "transformer"], ["E101", "'transformers'"]),
        (["--tasks", "cmmlu", "--chat-template", "zya"], ["E101", "'ziya'"]),
        (["--tasks", "cmmlu", "--dtype", "float23"], ["E102", "'float32'"]),
        (["--tasks", "cmmlu", "--limt", "3"], ["--limit"]),
        (["--tasks", "cmmlu", "--task-path", "/no/such/tasks"], ["E111", "--task-path"]),
    ],
)
def test_mistakes_are_one_line_with_the_nearest_name(
    call, checkpoint_path, tmp_path, arguments, words
):
    done = call("run", "--model", checkpoint_path, "--out", tmp_path / "out", *arguments)
    assert_refused(done, 2, *words)
    assert not (tmp_path / "out").exists(), "nothing is written before the command is understood"


def test_a_server_engine_without_a_server_says_what_to_give(call, checkpoint_path):
    done = call("run", "--model", checkpoint_path, "--tasks", "mcq", "--engine", "openai")
    assert_refused(done, 2, "E102", "--base-url")


@pytest.mark.skipif(
    importlib.util.find_spec("vllm") is not None, reason="vLLM is installed (GPU machines)"
)
def test_an_engine_that_is_not_installed_is_an_engine_failure(call, checkpoint_path):
    done = call("run", "--model", checkpoint_path, "--tasks", "mcq", "--engine", "vllm")
    assert_refused(done, 4, "E301", "vllm")


def test_a_wrong_model_names_its_neighbour(call, checkpoint_path):
    done = call("run", "--model", checkpoint_path.with_name("tini"), "--tasks", "mcq")
    assert_refused(done, 2, "E121", "did you mean", str(checkpoint_path))


def test_a_missing_command_names_the_nearest(call):
    assert_refused(call("rnu"), 2, "run")


def broken(checkpoint: Path, target: Path) -> Path:
    shutil.copytree(checkpoint, target)
    return target


def test_weights_cut_short_are_refused(call, checkpoint_path, tmp_path):
    folder = broken(checkpoint_path, tmp_path / "cut")
    file = folder / "model.safetensors"
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size // 2)
    done = call("run", "--model", folder, "--tasks", "mcq", "--out", tmp_path / "out")
    assert_refused(done, 2, "E121", "model.safetensors")


def test_pickled_weights_that_run_code_are_refused(call, checkpoint_path, tmp_path):
    """A hostile ``pytorch_model.bin`` must not execute: it would create the file ``pwned``."""
    import pickle

    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "pwned",))

    folder = broken(checkpoint_path, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Hostile()}))
    done = call("run", "--model", folder, "--tasks", "mcq", "--out", tmp_path / "out")
    assert_refused(done, 2, "E121")
    assert not (tmp_path / "pwned").exists()


def test_remote_code_must_be_asked_for(call, checkpoint_path, tmp_path):
    folder = broken(checkpoint_path, tmp_path / "remote")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')")
    done = call("run", "--model", folder, "--tasks", "mcq", "--out", tmp_path / "out")
    assert_refused(done, 2, "E121", "--trust-remote-code")
    assert not (tmp_path / "pwned").exists()


def test_bad_rows_are_named_or_counted(call, tmp_path):
    data = tmp_path / "questions.jsonl"
    good = {"question": "1+1=?", "options": ["1", "2"], "answer": "B"}
    rows = [json.dumps(good), "{broken", json.dumps(good | {"answer": "Z"})]
    data.write_text("\n".join(rows) + "\n")
    answers = tmp_path / "answers.txt"
    answers.write_text("B\n")
    common = ["run", "--model", f"replay:{answers}", "--tasks", "mcq", "--data", f"mcq={data}"]
    common += ["--num-fewshot", "0", "--out", tmp_path / "out"]
    assert_refused(call(*common), 2, "E112", "questions.jsonl:2", "--skip-bad-rows")
    done = call(*common, "--skip-bad-rows", "--display", "json")
    assert done.returncode == 0, done.stderr
    [run] = find_runs(tmp_path / "out")
    assert len(run.manifest.tasks[0].data.bad_rows) == 2
    assert run.manifest.results["mcq"].metrics["accuracy"].value == 1
    assert any("2 bad rows" in warning for warning in run.manifest.warnings)


def test_a_prompt_longer_than_the_context_is_an_error_record(call, checkpoint_path, tmp_path):
    """The context of this checkpoint is 256 tokens; five examples do not fit."""
    done = call(
        "run", "--model", checkpoint_path, "--tasks", "cmmlu", "--limit", "10", "--out", tmp_path
    )
    assert done.returncode == 3, done.stderr
    [run] = find_runs(tmp_path)
    result = run.manifest.results["cmmlu"]
    assert result.errors == {"prompt_too_long": 10}
    assert result.metrics["accuracy"].n == 0
    assert "prompt_too_long" in done.stdout
    left = call(
        "run", "--model", checkpoint_path, "--tasks", "cmmlu", "--limit", "10",
        "--variant", "cmmlu=lm-eval", "--out", tmp_path / "left",
    )  # fmt: skip
    assert left.returncode == 0, left.stderr
    assert "cut on the left" in left.stderr


def test_run_show_score_compare_gate_leaderboard(
    call, roomy_checkpoint_path, tmp_path, other_checkpoint_path
):
    """The whole way on two checkpoints, through the commands."""
    second = broken(roomy_checkpoint_path, tmp_path / "second")
    shutil.copy(other_checkpoint_path / "model.safetensors", second / "model.safetensors")
    out = tmp_path / "runs"
    models = ["--model", roomy_checkpoint_path, "--model", second]
    tasks = "mcq,classification_zh,translation/zh-en"
    done = call("run", *models, "--tasks", tasks, "--limit", "12", "--out", out)
    assert done.returncode == 0, done.stderr
    first, other = (f"{out}/{name}" for name in ("roomy", "second"))

    shown = json.loads(call("show", first, "--json").stdout)
    assert shown["status"] == "complete"
    assert shown["results"]["mcq"]["samples"] == 12
    frames = evalsuite.load_run(first)
    assert len(frames.records) == 36
    again = call("run", *models, "--tasks", tasks, "--limit", "12", "--out", out)
    assert "nothing to compute" in again.stderr

    exported = call("show", first, "--parquet", tmp_path / "parquet", "--by", "subject")
    assert exported.returncode == 0, exported.stderr
    import pandas as pd

    assert len(pd.read_parquet(tmp_path / "parquet" / "records.parquet")) == 36

    rescored = call("score", first)
    assert rescored.returncode == 0, rescored.stderr
    assert "0 samples score differently" in rescored.stdout

    compared = call("compare", first, other, "--json")
    assert {task["task"] for task in json.loads(compared.stdout)["tasks"]} == set(tasks.split(","))
    same = call("gate", "--baseline", first, "--candidate", first, "--max-drop", "1pt")
    assert same.returncode == 0, same.stdout
    assert "gate: pass" in same.stdout
    judged = call("gate", "--baseline", first, "--candidate", other, "--max-drop", "0pt")
    assert judged.returncode in (0, 1, 3)
    assert_refused(
        call("gate", "--baseline", first, "--candidate", other, "--max-drop", "1"), 2, "1pt"
    )

    board = tmp_path / "board.yaml"
    board.write_text("title: Two\ntasks: [mcq, classification_zh]\n")
    built = call("leaderboard", board, "--runs", out, "--out", tmp_path / "page")
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "roomy" in page
    assert "second" in page


def test_a_gate_on_other_questions_is_incomparable(call, tmp_path):
    data = tmp_path / "questions.jsonl"
    answers = tmp_path / "answers.txt"
    answers.write_text("B\nB\n")
    for number in (1, 2):
        rows = [
            {"question": f"{number}+{n}=?", "options": ["0", "9"], "answer": "B"} for n in (1, 2)
        ]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = call(
            "run", "--model", f"replay:{answers}", "--tasks", "mcq", "--num-fewshot", "0",
            "--data", f"mcq={data}", "--out", tmp_path / str(number),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    one, two = (find_runs(tmp_path / n)[0].path for n in ("1", "2"))
    done = call("gate", "--baseline", one, "--candidate", two, "--max-drop", "1pt")
    assert_refused(done, 3, "E204", "checksum")


def test_dry_run_shows_one_exact_prompt_a_task_and_computes_nothing(
    call, roomy_checkpoint_path, tmp_path
):
    done = call(
        "run", "--model", roomy_checkpoint_path, "--tasks", "cmmlu,cmath", "--dry-run",
        "--chat-template", "ziya", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("<s>") == 2, "one BOS a prompt"
    assert "答案是：" in done.stdout
    assert "\n<bot>:" in done.stdout
    assert "requests to compute" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_one_line(call, roomy_checkpoint_path, tmp_path):
    (tmp_path / "file").write_text("")
    done = call(
        "run", "--model", roomy_checkpoint_path, "--tasks", "mcq", "--out", tmp_path / "file" / "x"
    )
    assert_refused(done, 3, "E211", "--out")


def test_hostile_answers_pass_through_unharmed(call, tmp_path):
    hostile = [
        "\x00",
        "\x1b[2Jgone",
        "\u202eright to left",
        "👩‍👩‍👧",
        "x" * 100_000,
        "",
        "<script>",
        "\ud800",
    ]
    prompts = [
        json.loads(line)
        for line in (SAMPLES / "open_zh/prompts.jsonl").read_text("utf-8").splitlines()
    ]
    answers = tmp_path / "answers.jsonl"
    rows = [
        {"id": f"open_zh/{prompt['id']}", "output": hostile[n % len(hostile)]}
        for n, prompt in enumerate(prompts)
    ]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = call(
        "run", "--model", f"replay:{answers}", "--tasks", "open_zh", "--out", tmp_path / "o"
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b[2J" not in done.stdout + done.stderr
    [run] = find_runs(tmp_path / "o")
    kept = {record.sample: record.response.text for record in run.records()}
    for row in rows:
        assert kept[row["id"].removeprefix("open_zh/")] == row["output"]
    written = evalsuite.load_run(run.path).to_parquet(tmp_path / "parquet")
    assert all(file.is_file() for file in written)


def test_doctor_tells_what_works(call):
    done = call("doctor")
    assert done.returncode == 0, done.stdout
    assert "engine transformers" in done.stdout
    assert "sandbox" in done.stdout


def test_tasks_lists_and_shows(call):
    listed = call("tasks")
    assert listed.returncode == 0, listed.stderr
    for name in ("cmmlu", "ceval", "gsm8k", "translation", "open_zh"):
        assert name in listed.stdout
    shown = call("tasks", "show", "cmmlu")
    assert "题目：" in shown.stdout
    assert "BY-NC-SA" in shown.stdout
