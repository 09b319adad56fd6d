"""``evalsuite bench`` as a user meets it, on a shipped checkpoint in two dtypes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as tree
from pathlib import Path

import pytest

from evalsuite.measurements import BENCH, find_benches

ROOT = Path(__file__).parent.parent.parent
CHECKPOINT = ROOT / "train" / "checkpoints" / "tiny-sft"


def call(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "evalsuite", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "EVALSUITE_HOME": str(cwd / "home")},
    )  # fmt: skip


@pytest.fixture(scope="module")
def benched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benched")
    done = call(
        "bench", "--model", CHECKPOINT, "--dtype", "float32,bfloat16", "--prompt-tokens", 64,
        "--answer-tokens", 8, "--requests", 2, "--rounds", 1, "--repeats", 2, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_table_shows_both_and_warns_of_too_few_rounds(benched):
    _, done = benched
    for word in ("prefill", "decode", "mixed", "tiny-sft float32", "tiny-sft bfloat16", "MFU",
                 "of floor", "kv per token", "peak", "ttft", "matrix ceiling", "GFLOP/s"):  # fmt: skip
        assert word in done.stdout, word
    assert "give no intervals" in done.stdout


def test_the_record_holds_what_was_measured(benched):
    folder, _ = benched
    [bench] = find_benches(folder / "runs")
    one, other = bench.configurations
    assert one.fingerprint == other.fingerprint != ""
    assert (one.engine["dtype"], other.engine["dtype"]) == ("float32", "bfloat16")
    assert one.find("", "weights").value == pytest.approx(
        2 * other.find("", "weights").value, rel=0.01
    )
    assert one.find("", "kv_per_token").value == 2 * 4 * 4 * 48 * 4
    assert bench.hardware.used == 1
    assert {"torch", "python"} <= bench.environment.keys()


def test_pytest_benchmark_compares_it(benched):
    folder, _ = benched
    [file] = (folder / "runs").glob("*/pytest-benchmark.json")
    done = subprocess.run(
        [Path(sys.executable).with_name("pytest-benchmark"), "compare", file],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("prefill[tiny-sft float32]", "mixed[tiny-sft bfloat16]"):
        assert name in done.stdout
    assert "benchmark 'decode': 2 tests" in done.stdout


def test_the_picture_is_a_picture(benched):
    folder, _ = benched
    [file] = (folder / "runs").glob("*/bench.svg")
    root = tree.parse(file).getroot()
    circles = [element for element in root.iter() if element.tag.endswith("circle")]
    assert len(circles) == 2 * 4, "two configurations, three workloads and memory"


def test_a_gate_on_one_round_is_inconclusive(benched):
    folder, _ = benched
    [file] = (folder / "runs").glob(f"*/{BENCH}")
    sides = [f"{file.parent}:tiny-sft {dtype}" for dtype in ("float32", "bfloat16")]
    done = call("gate", "--baseline-bench", sides[0], "--candidate-bench", sides[1],
                "--max-slowdown", "5%", "--max-memory-growth", "5%", "--json", cwd=folder)  # fmt: skip
    assert done.returncode == 3, done.stderr
    verdict = json.loads(done.stdout)["cost"]
    assert {found["outcome"] for found in verdict["quantities"]} == {"inconclusive"}
    assert {found["workload"] for found in verdict["quantities"]} == {
        "prefill",
        "decode",
        "mixed",
        "",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dtype", "float23"], ["E102", "'float32'"]),
        (["--engine", "transformer"], ["E101", "'transformers'"]),
        (["--rounds", "0"], ["E102", "--rounds"]),
        (["--requests", "0"], ["E102", "--requests"]),
        (["--batch-tokens", "many"], ["E102", "--batch-tokens"]),
        (["--answer-tokens", "-1"], ["E102", "--answer-tokens"]),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, words):
    done = call("bench", "--model", CHECKPOINT, *arguments, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    for word in words:
        assert word in done.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_lengths_beyond_the_context_fail_the_configuration(tmp_path):
    done = call(
        "bench", "--model", CHECKPOINT, "--prompt-tokens", 5000, "--rounds", 1, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "do not fit a context of 1024" in done.stdout


def test_what_was_measured_before_ctrl_c_is_kept(tmp_path):
    """One round is done when the second begins; then the command is stopped."""
    command = [
        sys.executable, "-m", "evalsuite", "bench", "--model", str(CHECKPOINT), "--rounds", "50",
        "--prompt-tokens", "16", "--answer-tokens", "2", "--requests", "1",
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert "round 1/50" in process.stderr.readline()
        assert "round 2/50" in process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped by the user after 1 of 50 rounds" in out
    [bench] = find_benches(tmp_path / "runs")
    assert [len(q.rounds) for q in bench.configurations[0].quantities if q.name == "load"] == [1]
