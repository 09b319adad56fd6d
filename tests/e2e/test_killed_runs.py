"""A run that is killed again and again ends like one that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalsuite.request import Chosen
from evalsuite.store import find_runs, open_run

KILLS = 20


def start(checkpoint: Path, out: Path, home: Path, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "evalsuite", "run", "--model", str(checkpoint),
        "--tasks", "mcq,cmath", "--batch-tokens", "256", "--sampling", "max_tokens=64",
        "--out", str(out), "--display", "json", *more,
    ]  # fmt: skip
    environment = os.environ | {"EVALSUITE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def lines(out: Path) -> list[dict]:
    files = list(out.glob("*/records.jsonl"))
    text = files[0].read_text(encoding="utf-8") if files else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_sigkills_lose_nothing_and_repeat_nothing(roomy_checkpoint_path, tmp_path):
    calm = start(roomy_checkpoint_path, tmp_path / "calm", tmp_path / "calm-home")
    _, calm_errors = calm.communicate()
    assert calm.returncode == 0, calm_errors
    reference = open_run(find_runs(tmp_path / "calm")[0].path)
    total = len(list(reference.records()))

    chance = random.Random(20)
    out, home = tmp_path / "killed", tmp_path / "killed-home"
    moments: list[int] = []
    for _ in range(KILLS):
        process = start(roomy_checkpoint_path, out, home)
        assert process.stdout is not None
        before = len(lines(out))
        stop_after = chance.randint(0, total // KILLS + 1)
        for line in process.stdout:
            if json.loads(line)["event"] == "plan":
                break
        while process.poll() is None and len(lines(out)) < before + stop_after:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        after = len(lines(out))
        moments.append(after)
        assert after >= before, "a record that was written is gone"
        if after == total:
            break
    assert len(moments) == KILLS, f"the run was over before the last kill: {moments}"
    assert len(set(moments)) > KILLS // 2, f"the kills did not fall into the run: {moments}"

    last = start(roomy_checkpoint_path, out, home)
    output, errors = last.communicate()
    assert last.returncode == 0, errors
    plan = next(json.loads(line) for line in output.splitlines() if '"plan"' in line)
    assert plan["to_ask"] <= total - moments[-1], "something was asked that was already answered"

    resumed = find_runs(out)[0]
    written = lines(out)
    places = [(line["task"], line["sample"]) for line in written]
    assert len(places) == len(set(places)) == total
    by_place = {(r.task, r.sample): r for r in resumed.records()}
    for record in reference.records():
        other = by_place[record.task, record.sample]
        assert (other.key, other.scores, other.answer) == (record.key, record.scores, record.answer)
        if isinstance(record.response, Chosen):
            assert other.response.picked == record.response.picked
            assert other.response.logprobs == pytest.approx(record.response.logprobs, abs=1e-4)
        else:
            assert other.response == record.response
    assert resumed.manifest.run_id == reference.manifest.run_id
    assert resumed.manifest.results == reference.manifest.results


def test_interrupt_saves_and_prints_the_command_that_goes_on(roomy_checkpoint_path, tmp_path):
    process = start(roomy_checkpoint_path, tmp_path / "out", tmp_path / "home")
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "progress":
            break
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    said = [json.loads(line).get("text", "") for line in output.splitlines()]
    assert any("evalsuite run --model" in text for text in said)
    [run] = find_runs(tmp_path / "out")
    assert run.manifest.status == "interrupted"
    saved = len(list(run.records()))
    assert saved > 0
    again = start(roomy_checkpoint_path, tmp_path / "out", tmp_path / "home")
    output, errors = again.communicate()
    assert again.returncode == 0, errors
    [run] = find_runs(tmp_path / "out")
    assert run.manifest.status == "complete"
