"""Real workers in processes of their own: taking turns, failing, killed, and left alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import msgspec
import psutil
import pytest
from checkpoint_factory import write_tokenizer, write_weights

from evalsuite import lines
from evalsuite.bench.quantities import quantities
from evalsuite.bench.rounds import Result, ask, take_turns
from evalsuite.bench.sample import Job, Setup
from evalsuite.bench.workload import Lengths
from evalsuite.measurements import Configuration

LENGTHS = Lengths(prompt_tokens=32, answer_tokens=6, requests=2)
MIB = 2**20


def job_of(path, **changes) -> Job:
    fields = {"setup": Setup(model=str(path)), "lengths": LENGTHS, "repeats": 2}
    return Job(**(fields | changes))


@pytest.fixture(scope="module")
def heavy_checkpoint_path(tmp_path_factory):
    """The tiny model with 64 MiB more of weights, in the one table that is the head as well."""
    folder = tmp_path_factory.mktemp("heavy") / "heavy"
    write_tokenizer(folder)
    write_weights(folder, seed=4, vocab_size=262_144, tie_word_embeddings=True)
    return folder


@pytest.fixture(scope="module")
def turns(checkpoint_path, heavy_checkpoint_path):
    said: list[str] = []
    setups = [
        Setup(model=str(checkpoint_path)),
        Setup(model=str(heavy_checkpoint_path)),
        Setup(model=str(checkpoint_path), batch_tokens=0),
    ]
    results = [Result(setup) for setup in setups]
    take_turns(results, job_of(""), 2, said.append)
    return results, said


def test_configurations_take_turns_and_the_order_turns(turns, checkpoint_path):
    results, said = turns
    names = [text for text in said if text.startswith("round")]
    assert "heavy" in names[1]
    assert "heavy" in names[3]
    assert [len(result.rounds) for result in results] == [2, 2, 0]
    assert names[4].startswith("round 2/2")
    assert "tiny" in names[4]


def test_a_configuration_that_fails_says_why_and_stops_no_other(turns):
    broken = turns[0][2]
    assert "E102" in broken.failure
    assert broken.exit_code == 2


def test_peaks_belong_to_their_own_configuration(turns):
    """64 MiB more of weights are 64 MiB more of peak."""
    small, large = (result.rounds[0] for result in turns[0][:2])
    more = large.footprint.weight_bytes - small.footprint.weight_bytes
    assert more > 60 * MIB
    assert large.memory.peak - small.memory.peak == pytest.approx(more, rel=0.15)
    assert large.memory.loaded > large.memory.base
    assert large.memory.peak >= large.memory.loaded - 4 * MIB


def test_every_quantity_is_a_number_and_the_ones_promised_are_there(turns):
    result = turns[0][0]
    found = Configuration(
        label="x", model="x", fingerprint="", quantities=quantities(result.rounds)
    )
    for name in (
        "startup",
        "load",
        "weights",
        "kv_per_token",
        "activations",
        "peak",
        "matrix_ceiling",
    ):
        assert found.find("", name).value > 0 or name == "activations"
    for name in ("ttft", "tpot", "itl_p50"):
        assert 0 < found.find("alone", name).value < 10
    for workload in ("prefill", "decode", "mixed"):
        speed = found.find(workload, "tokens_per_second")
        assert [len(repeats) for repeats in speed.rounds] == [2, 2]
        assert 0 < found.find(workload, "floor_share").value < 1
        assert 0 < found.find(workload, "mfu").value < 1
    assert found.find("prefill", "bandwidth_use") is None
    assert 0 < found.find("decode", "bandwidth_use").value < 1
    assert found.find("mixed", "computed_share").value == pytest.approx(1.0)
    startup, load = found.find("", "startup"), found.find("", "load")
    assert startup.value > load.value


def test_a_worker_that_is_killed_is_a_failure_with_its_signal(checkpoint_path):
    me = psutil.Process()

    def kill() -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for child in me.children():
                if "evalsuite.bench.worker" in " ".join(child.cmdline()):
                    time.sleep(0.5)
                    child.kill()
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    answer = ask(job_of(checkpoint_path))
    killer.join()
    assert answer.round is None
    assert (answer.exit_code, "-9" in answer.error, "E302" in answer.error) == (4, True, True)


def test_a_worker_whose_parent_was_killed_ends(checkpoint_path):
    """kill -9 of the command leaves no process that goes on measuring."""
    worker = [sys.executable, "-m", "evalsuite.bench.worker"]
    parent = (
        "import subprocess, sys\n"
        f"p = subprocess.Popen({worker!r}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)\n"
        f"p.stdin.write({lines.encode(job_of(checkpoint_path, repeats=100_000))!r} + b'\\n'); p.stdin.flush()\n"
        "print(p.pid, flush=True)\nimport time; time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        assert psutil.pid_exists(pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    end = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the worker outlived its parent"
        time.sleep(0.1)


def test_damaged_weights_are_named(checkpoint_path, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(checkpoint_path, folder)
    os.truncate(folder / "model.safetensors", 1000)
    answer = ask(job_of(folder))
    assert (answer.exit_code, "model.safetensors" in answer.error) == (2, True), answer.error


def test_a_task_is_measured_on_its_own_requests(roomy_checkpoint_path):
    job = job_of(roomy_checkpoint_path, tasks=("mcq", "classification_zh"), limit=4)
    found = ask(job).round
    assert list(found.timings) == ["mcq", "classification_zh"]
    assert found.timings["mcq"][0].tally.requests == 4
    assert found.timings["mcq"][0].tally.answer_tokens == 0
    assert found.timings["classification_zh"][0].tally.answer_tokens > 0
    assert msgspec.json.decode(lines.encode(found))["memory"]["peak"] == found.memory.peak
