"""Nothing is left behind when a run on vLLM is killed, interrupted or loses its worker."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkpoint_factory import write_tokenizer, write_weights

from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines.opening import open_engine
from evalsuite.errors import EngineFailed
from evalsuite.request import Choose, Chosen, Generate, Prompt, Sampling
from evalsuite.store import find_runs

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="vLLM is not here: make test-vllm"
    ),
    pytest.mark.timeout(400),
]
PATIENCE = 20


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm") / "tiny"
    write_tokenizer(folder)
    write_weights(folder, seed=1, hidden_size=128, max_position_embeddings=8192)
    return folder


def start(path: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "evalsuite", "run", "--model", str(path), "--tasks", "mcq,cmath",
        "--engine", "vllm", "--engine-option", "max_num_seqs=2", "--no-cache",
        "--out", str(out), "--display", "json", *more,
    ]  # fmt: skip
    environment = os.environ | {"EVALSUITE_HOME": str(out / "home"), "TMPDIR": str(out)}
    out.mkdir(exist_ok=True)
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def family(pid: int) -> list[int]:
    """Processes below this one."""
    below = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            child = int(stat.parent.name)
            below += [child, *family(child)]
    return below


def gone(pids: list[int]) -> bool:
    """Whether all of them end, within some seconds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def until_records(process: subprocess.Popen[str], out: Path, count: int) -> list[int]:
    """Wait for records; the processes below the run's."""
    below: list[int] = []
    while process.poll() is None:
        files = list(out.glob("*/records.jsonl"))
        if files and files[0].read_bytes().count(b"\n") >= count:
            return below
        below = below or family(process.pid)
        time.sleep(0.002)
    raise AssertionError(f"the run was over before it was stopped: {process.communicate()}")


@pytest.fixture(scope="module")
def calm(path, tmp_path_factory):
    """The records of the same run on transformers, by task and sample."""
    out = tmp_path_factory.mktemp("calm")
    process = start(path, out, "--engine", "transformers")
    _, errors = process.communicate()
    assert process.returncode == 2, "options are for vLLM only"
    assert "--engine-option" in errors
    command = [arg for arg in process.args if arg not in ("--engine-option", "max_num_seqs=2")]
    done = subprocess.run(
        command, env=os.environ | {"EVALSUITE_HOME": str(out / "home")}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {(r.task, r.sample): r for r in find_runs(out)[0].records()}


def test_killed_and_interrupted_runs_leave_nothing_and_go_on(path, tmp_path, calm):
    for blow, count in ((signal.SIGKILL, 3), (signal.SIGINT, 9)):
        process = start(path, tmp_path)
        below = until_records(process, tmp_path, count)
        assert below, "vLLM is not in a process of its own"
        process.send_signal(blow)
        output, errors = process.communicate()
        assert gone(below), f"still there after {blow!r}: {below}"
        assert not list(tmp_path.glob("evalsuite-vllm-*"))
        if blow == signal.SIGINT:
            assert process.returncode == 130, errors
            assert "Traceback" not in errors
    before = next(tmp_path.glob("*/records.jsonl")).read_bytes().count(b"\n")
    assert 9 <= before < len(calm)
    last = start(path, tmp_path)
    output, errors = last.communicate()
    assert (last.returncode, errors) == (0, ""), "vLLM's own output is not ours"
    said = [json.loads(line) for line in output.splitlines()]
    plan = next(line for line in said if line["event"] == "plan")
    assert plan["to_ask"] <= len(calm) - before
    records = list(find_runs(tmp_path)[0].records())
    assert len(records) == len(calm)
    for record in records:
        other = calm[record.task, record.sample]
        assert (record.scores, record.answer) == (other.scores, other.answer)
        if isinstance(record.response, Chosen):
            assert record.response.logprobs == pytest.approx(other.response.logprobs, abs=1e-4)
        else:
            assert record.response == other.response


def test_a_worker_that_is_killed_is_an_engine_failure(path):
    engine = open_engine("vllm", open_checkpoint(str(path)))
    asked = {
        "short": Choose(Prompt("今天"), ("A", "B")),
        "long": Generate(Prompt("今天"), Sampling(max_tokens=8000)),
    }
    answers = engine.answer(engine.prepare(list(asked), list(asked.values())))
    assert next(answers)[0] == 0
    worker, log = engine._worker.pid, engine._worker.log
    below = [worker, *family(worker)]
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(EngineFailed, match=r"killed|Error") as caught:
        list(answers)
    assert str(log) in caught.value.hint
    assert gone(below)
    with pytest.raises(EngineFailed):
        list(engine.answer(engine.prepare(list(asked), list(asked.values()))))
    engine.close()
    shutil.rmtree(log.parent)


def test_an_engine_that_is_dropped_while_it_loads_is_gone(path):
    engine = open_engine("vllm", open_checkpoint(str(path)))
    below = [engine._worker.pid, *family(engine._worker.pid)]
    begun = time.monotonic()
    engine.close()
    assert gone(below)
    assert time.monotonic() - begun < PATIENCE
