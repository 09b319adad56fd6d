"""Rounds: every configuration in turn, each in a fresh process, until all have had their share."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO

import msgspec

from evalsuite import lines
from evalsuite.bench.sample import Answer, Job, Round, Setup
from evalsuite.errors import EngineFailed

_LAST_WORDS = 300
"""Characters of what a dead worker said."""


class Result(msgspec.Struct):
    """What became of one configuration."""

    setup: Setup
    rounds: list[Round] = []
    failure: str = ""
    exit_code: int = 0


def take_turns(
    results: Sequence[Result], job: Job, rounds: int, say: Callable[[str], None]
) -> None:
    """Measure each configuration ``rounds`` times, interleaved: A B, B A, A B, ….

    The order turns round after round, so that neither always comes first. A configuration that
    fails is left out of the rounds to come; what it did before is kept.

    Args:
        results: one for each configuration; what is measured is added as it is done.
        job: what all do; its setup is replaced.

    Raises:
        KeyboardInterrupt: stopped by the user; what was done before stands in ``results``.
    """
    for number in range(rounds):
        order = results if number % 2 == 0 else list(reversed(results))
        for result in order:
            if result.failure:
                continue
            say(f"round {number + 1}/{rounds}: {described(result.setup)}")
            answer = ask(msgspec.structs.replace(job, setup=result.setup, round=number))
            if answer.round is None:
                result.failure, result.exit_code = answer.error, answer.exit_code
                say(f"  failed: {answer.error}")
            else:
                result.rounds.append(answer.round)


def ask(job: Job) -> Answer:
    """Run one worker; however it ends, its process does not outlive this call."""
    command = [sys.executable, "-m", "evalsuite.bench.worker"]
    with tempfile.TemporaryFile() as words:
        job = msgspec.structs.replace(job, spawned=time.time())
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, env=_environment()
        ) as process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(lines.encode(job) + b"\n")
                process.stdin.flush()
                said = process.stdout.read()
                process.stdin.close()
                process.wait()
            except BaseException:
                process.kill()
                raise
        try:
            return lines.decode(said, Answer)
        except msgspec.DecodeError:
            fault = EngineFailed(
                f"its process ended with {process.returncode}: {_end_of(words)}",
                where=described(job.setup),
                hint="-9 is often the system out of memory; try smaller --batch-tokens",
            )
            return Answer(error=fault.one_line(), exit_code=fault.exit_code)


def described(setup: Setup) -> str:
    """The configuration in a few words."""
    batch = f", batches of {setup.batch_tokens} tokens" if setup.batch_tokens else ""
    return f"{setup.model} {setup.engine} {setup.dtype}{batch}"


def _environment() -> dict[str, str]:
    """This process's own, with the path it imports from."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return os.environ | {"PYTHONPATH": path}


def _end_of(words: IO[bytes]) -> str:
    words.seek(0)
    text = words.read().decode("utf-8", errors="replace").strip()
    return " ".join(text[-_LAST_WORDS:].split())
