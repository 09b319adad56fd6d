"""Trains a tiny model in forked processes that are killed with SIGKILL, then goes on; prints digests.

Usage: python killed_training.py FOLDER. One JSON object comes out: how it was killed → digest of the
final weights, and what the resumed process said.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evalsuite_train import state as state_module
from evalsuite_train.model import Shape, new_model
from evalsuite_train.packing import Packed
from evalsuite_train.trainer import Optimisation, train

STEPS = 24
SETTINGS = Optimisation(
    steps=STEPS,
    learning_rate=3e-3,
    warmup=4,
    accumulation=2,
    save_every=5,
    log_every=2,
    peak_tflops=1.0,
)


def documents() -> Packed:
    random_ids = np.random.default_rng(3)
    rows = [np.array([1, *random_ids.integers(3, 90, size), 2]) for size in range(5, 45)]
    offsets = np.cumsum([0, *map(len, rows)])
    return Packed(np.concatenate(rows).astype(np.uint16), offsets, 1, "documents")


def run(out: Path) -> str:
    model = new_model(Shape(32, 2, 2, 1, 64), 128, seed=1)
    model.config.attention_dropout = 0.1
    for layer in model.model.layers:  # dropout makes the random state count
        layer.self_attn.attention_dropout = 0.1
    packed = documents()
    train(model, lambda n: packed.batches(n, rows=2, length=32, seed=1), SETTINGS, out, seed=1)
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def forked(work: Callable[[], str]) -> tuple[int, Path]:
    """Start ``work`` in a process of its own; its result or its output stands in the file."""
    result = Path(sys.argv[1]) / f"result-{random.random()}"
    process = os.fork()
    if process:
        return process, result
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        value = work()
    result.write_text(json.dumps([value, said.getvalue()]))
    os._exit(0)


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_while_writing(out: Path) -> str:
    whole, saves = torch.save, []

    def half(value: Any, file: Any) -> None:
        saves.append(value)
        if len(saves) < 4:
            whole(value, file)
            return
        content = io.BytesIO()
        whole(value, content)
        file.write(content.getvalue()[: len(content.getvalue()) // 2])
        file.flush()
        die()

    state_module.torch.save = half  # type: ignore[attr-defined]
    return run(out)


def dies_between_renames(out: Path) -> str:
    replace = Path.replace

    def last(path: Path, target: Path) -> Path:
        if path.name == state_module.NEW and (out / state_module.PREVIOUS).is_file():
            die()
        return replace(path, target)

    Path.replace = last  # type: ignore[method-assign]
    return run(out)


def killed_at_random(out: Path) -> int:
    """Kill a running training from outside, somewhere between its first rows and its end."""
    process, _ = forked(lambda: run(out))
    rows = random.Random(time.time_ns()).randint(2, 9)
    log = out / "log.jsonl"
    while not log.is_file() or log.read_bytes().count(b"\n") < rows:
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    return process


def finish(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    process, result = forked(lambda: run(folder / "whole"))
    assert finish(process) == 0
    report = {"never": json.loads(result.read_text())}
    deaths: dict[str, Callable[[Path], int]] = {
        "at a random step": killed_at_random,
        "while writing": lambda out: forked(lambda: dies_while_writing(out))[0],
        "between the renames": lambda out: forked(lambda: dies_between_renames(out))[0],
    }
    for number, (name, kill) in enumerate(deaths.items()):
        out = folder / str(number)
        assert finish(kill(out)) == -signal.SIGKILL, name
        process, result = forked(lambda out=out: run(out))  # type: ignore[misc]
        assert finish(process) == 0
        report[name] = json.loads(result.read_text())
    print(json.dumps(report))


if __name__ == "__main__":
    main()
