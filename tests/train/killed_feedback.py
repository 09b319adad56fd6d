"""Runs HFFT and COHFT in forked processes, kills them with SIGKILL at a random moment, and goes on.

Usage: python killed_feedback.py FOLDER PARENT. One JSON object comes out: section → the digests of
the float32 weights of a run that was never killed and of the one that was.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import io
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from evalsuite_train.ladder import run_section
from evalsuite_train.recipe import Recipe

SHARED = {
    "batch": 4,
    "steps": 12,
    "warmup": 2,
    "learning_rate": 1e-3,
    "precision": "fp32",
    "max_length": 128,
    "device": "cpu",
    "save_every": 3,
    "log_every": 1,
    "peak_tflops": 1.0,
    "spike_threshold": 0,
}
SECTIONS = {
    "hfft": {"prompts": "prompts.jsonl", "data": "sft.jsonl", "samples": 4, "max_new_tokens": 12},
    "cohft": {"data": "preferences.jsonl", "pt": "pt.jsonl", "sft": "sft.jsonl"},
}


def write_data(work: Path) -> None:
    turns = [{"from": "human", "value": "你好"}, {"from": "assistant", "value": "你好，请说。"}]
    rule = {"type": "max_characters", "value": 40}
    rows = {
        "prompts": [
            {"id": f"q{i}", "task": "wishes", "prompt": f"说{i}句话", "rules": [rule]}
            for i in range(12)
        ],
        "sft": [{"task": "chat", "conversations": turns}] * 3,
        "preferences": [
            {"task": "wishes", "prompt": f"说{i}句话", "chosen": f"好，{i}句。", "rejected": "不"}
            for i in range(12)
        ],
        "pt": [{"text": f"今天天气很好，有{i}个人。"} for i in range(40)],
    }
    work.mkdir(parents=True)
    for name, content in rows.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        (work / f"{name}.jsonl").write_text(text, encoding="utf-8")


def start(work: Path, section: str, parent: str) -> int:
    process = os.fork()
    if process:
        return process
    with contextlib.redirect_stdout(io.StringIO()):
        settings = {"parent": parent, **SHARED, **SECTIONS[section]}
        run_section(Recipe("toy", 1, work, (section,), {section: settings}, "toy.yaml"), section)
    os._exit(0)


def finish(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed(work: Path, section: str, parent: str) -> int:
    """Kill a run while it samples, at its start, or after some of its steps."""
    process, log = start(work, section, parent), work / section / "log.jsonl"
    rows = random.Random(time.time_ns()).randint(-2, 8)
    journal = work / section / "state-candidates.jsonl"
    if rows < 1 and section == "hfft":
        while not journal.is_file():
            time.sleep(0.001)
    while rows > 0 and (not log.is_file() or log.read_bytes().count(b"\n") < rows):
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    return finish(process)


def digest(folder: Path) -> str:
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["step"] == SHARED["steps"]
    total = hashlib.sha256()
    for name, tensor in sorted(state["model"].items()):
        total.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


def main() -> None:
    torch.set_num_threads(1)
    for section in SECTIONS:  # once here, and not in every fork
        module = importlib.import_module(f"evalsuite_train.{section}")
        # A finished section needs its state no more; its float32 weights are what is compared here.
        module.remove_states = lambda out: None
    if importlib.util.find_spec("deepspeed"):
        importlib.import_module("deepspeed")  # by transformers, when it saves
    folder, parent = Path(sys.argv[1]), sys.argv[2]
    report = {}
    for section in SECTIONS:
        places = [folder / name / section for name in ("whole", "killed")]
        for work in places:
            write_data(work)
        assert finish(start(places[0], section, parent)) == 0
        assert killed(places[1], section, parent) == -signal.SIGKILL
        assert finish(start(places[1], section, parent)) == 0
        report[section] = [digest(work / section) for work in places]
    print(json.dumps(report))


if __name__ == "__main__":
    main()
