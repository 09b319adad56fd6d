"""``evalsuite bench`` on checkpoints: from configurations to a record."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Sequence

import msgspec

import evalsuite
from evalsuite.bench.hardware import hardware, software
from evalsuite.bench.host import Span, complaint
from evalsuite.bench.quantities import quantities
from evalsuite.bench.rounds import Result, take_turns
from evalsuite.bench.sample import Job, Setup
from evalsuite.bench.workload import synthetic
from evalsuite.contestant import Contestant
from evalsuite.errors import BadOption
from evalsuite.measurements import Bench, Configuration, Workload, bench_id
from evalsuite.stats.medians import LEAST

STOPPED = 130
"""The exit code of a command that the user stopped."""


def bench_offline(
    setups: Sequence[Setup],
    job: Job,
    rounds: int,
    command: tuple[str, ...],
    say: Callable[[str], None],
) -> tuple[Bench, int]:
    """Measure configurations against each other.

    Args:
        job: what each does in a round; its setup is replaced.
        say: told what is going on.

    Returns:
        The record, and the exit code: of the first configuration that failed, 0 if none did, 130
        where the user stopped it, with what was measured until then.

    Raises:
        BadOption: nothing to measure, or numbers below one.
        EvalsuiteError: a checkpoint, dtype or engine that cannot be.
    """
    _check(setups, job, rounds)
    contestants = [_contestant(setup) for setup in setups]
    created = _now()
    results = [Result(setup) for setup in setups]
    stopped = False
    try:
        take_turns(results, job, rounds, say)
    except KeyboardInterrupt:
        if not any(result.rounds for result in results):
            raise
        stopped = True
    labels = _labels(setups, contestants)
    configurations = tuple(
        Configuration(
            label=label,
            model=contestant.part.name,
            fingerprint=contestant.part.fingerprint,
            chat_template=contestant.part.chat_template,
            engine=contestant.engine | (result.rounds[0].engine if result.rounds else {}),
            quantities=quantities(result.rounds),
            failure=result.failure,
        )
        for label, contestant, result in zip(labels, contestants, results, strict=True)
    )
    done = [found for result in results for found in result.rounds]
    name = configurations[0].model if len({c.model for c in configurations}) == 1 else "models"
    bench = Bench(
        bench_id=bench_id(created, command, name),
        created=created,
        finished=_now(),
        evalsuite=evalsuite.__version__,
        command=command,
        hardware=done[0].hardware if done else hardware(os.cpu_count() or 1),
        environment=software(),
        workloads=_workloads(job, results),
        rounds=rounds,
        repeats=1 if job.tasks else job.repeats,
        seed=job.seed,
        configurations=configurations,
        warnings=tuple(_warnings(results, rounds, stopped=stopped)),
    )
    failed = next((result.exit_code for result in results if result.failure), 0)
    return bench, STOPPED if stopped else failed


def _check(setups: Sequence[Setup], job: Job, rounds: int) -> None:
    if not setups:
        raise BadOption("no model", where="--model")
    counts = {
        "--rounds": rounds,
        "--repeats": job.repeats,
        "--requests": job.lengths.requests,
        "--prompt-tokens": job.lengths.prompt_tokens,
        "--answer-tokens": job.lengths.answer_tokens,
    }
    for option, value in counts.items():
        if value < 1:
            raise BadOption(f"{value} is less than one", where=option, hint="give 1 or more")


def _contestant(setup: Setup) -> Contestant:
    """Checked and fingerprinted before anything is measured."""
    contestant = setup.contestant()
    if contestant.engine["name"] == "replay":
        raise BadOption("kept answers have no speed", where=f"--model {setup.model}")
    return contestant


def _labels(setups: Sequence[Setup], contestants: Sequence[Contestant]) -> list[str]:
    """The model, and whichever options differ between configurations; unique."""
    columns = [
        [contestant.part.name for contestant in contestants],
        [str(contestant.engine["name"]) for contestant in contestants],
        [setup.dtype for setup in setups],
        [str(setup.batch_tokens or "auto") for setup in setups],
    ]
    telling = [column for n, column in enumerate(columns) if n == 0 or len(set(column)) > 1]
    labels = [" ".join(words) for words in zip(*telling, strict=True)]
    return [
        label if labels.count(label) == 1 else f"{label} #{labels[:n].count(label) + 1}"
        for n, label in enumerate(labels)
    ]


def _workloads(job: Job, results: Sequence[Result]) -> tuple[Workload, ...]:
    if not job.tasks:
        return tuple(synthetic(job.lengths))
    first = next((result.rounds[0] for result in results if result.rounds), None)
    counts = {} if first is None else {t: first.timings[t][0].tally.requests for t in job.tasks}
    return tuple(Workload(name=task, requests=counts.get(task, 0)) for task in job.tasks)


def _warnings(results: Sequence[Result], rounds: int, *, stopped: bool) -> list[str]:
    spans: list[Span] = [
        timing.span
        for result in results
        for found in result.rounds
        for timings in found.timings.values()
        for timing in timings
    ]
    found = []
    if stopped:
        counts = ", ".join(str(len(result.rounds)) for result in results)
        found.append(f"stopped by the user after {counts} of {rounds} rounds")
    if why := complaint(spans):
        found.append(f"the machine was busy: {why}; wall times are too long, CPU times less so")
    if rounds < LEAST:
        found.append(f"{rounds} rounds give no intervals, and no gate can pass; {LEAST} do")
    different = {
        msgspec.structs.replace(r.hardware, used=0).signature for x in results for r in x.rounds
    }
    if len(different) > 1:
        found.append("the configurations ran on different devices: " + "; ".join(sorted(different)))
    return found


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
