"""One checkpoint through a plan: open or resume its run, carry it out, sum it up."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import platform
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

import evalsuite
from evalsuite.agenda import Agenda, agenda
from evalsuite.cache import AnswerCache
from evalsuite.clock import Moment, now
from evalsuite.contestant import Contestant
from evalsuite.engines.base import Engine, Work
from evalsuite.errors import ENGINE_CODES, EvalsuiteError, RunDamaged, RunIncomplete
from evalsuite.ledger import Ledger
from evalsuite.plan import PlannedTask
from evalsuite.record import (
    CheckpointPart,
    Record,
    RunManifest,
    Signature,
    TaskPart,
    TaskResult,
    digest,
)
from evalsuite.report.displays import Display, Outlook, TaskOutlook
from evalsuite.runner import carry_out
from evalsuite.sandbox import Kind
from evalsuite.scoring import Scorer
from evalsuite.store import MANIFEST, Journal, Run, open_run, recorded, write_manifest
from evalsuite.summary import Shortener, summarise

_PACKAGES = ("torch", "transformers", "tokenizers", "sacrebleu", "math-verify", "numpy")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the user decided about a run, beside the model and the tasks.

    Attributes:
        out: the folder that run folders are made in.
        sandbox: where the programs of code tasks run.
        command: the command line, to repeat or resume it.
    """

    out: Path
    seed: int = 0
    limit: int | None = None
    retry_failed: bool = False
    sandbox: Kind = "bubblewrap"
    command: tuple[str, ...] = ()


def new_manifest(
    contestant: Contestant, tasks: Sequence[PlannedTask], settings: Settings
) -> RunManifest:
    """The manifest of a run that has not begun.

    The run's id follows from everything that decides its answers, so the same command finds its own
    earlier start again and goes on from there.
    """
    checkpoint = contestant.part
    parts = tuple(planned.part for planned in tasks)
    signature = "\n".join(str(task_signature(part, checkpoint, settings.seed)) for part in parts)
    asked = [[t.task.source_sha256, t.requests_sha256] for t in tasks]
    identity = digest([signature, checkpoint.fingerprint, contestant.engine, asked])
    slug = re.sub(r"[^\w.-]+", "-", checkpoint.name).strip("-.")[:60] or "model"
    return RunManifest(
        run_id=f"{slug}-{identity[:10]}",
        status="running",
        created=_now(),
        evalsuite=evalsuite.__version__,
        command=settings.command,
        checkpoint=checkpoint,
        engine=contestant.engine,
        seed=settings.seed,
        limit=settings.limit,
        tasks=parts,
        signature=signature,
        environment=_environment(),
    )


def task_signature(part: TaskPart, checkpoint: CheckpointPart, seed: int) -> Signature:
    """What a task's score depends on, the weights apart."""
    return Signature(
        task=part.name.partition("/")[0],
        version=part.version,
        subset=part.subset,
        variant=part.variant,
        num_fewshot=part.num_fewshot,
        chat_template=checkpoint.chat_template,
        data=digest(sorted(part.data.sha256.items())),
        samples=part.sample_ids_sha256,
        seed=seed,
        sampling=part.sampling,
        choices=checkpoint.choices,
    )


def finished_run(manifest: RunManifest, settings: Settings) -> Run | None:
    """The complete run of this manifest, if an earlier start finished it."""
    folder = settings.out / manifest.run_id
    if settings.retry_failed or not (folder / MANIFEST).is_file():
        return None
    run = open_run(folder)
    asked = sum(part.samples for part in manifest.tasks)
    whole = run.manifest.status == "complete" and len(recorded(folder)) == asked
    return run if whole else None


def evaluate(
    manifest: RunManifest,
    tasks: Sequence[PlannedTask],
    open_engine: Callable[[], Engine],
    settings: Settings,
    cache: AnswerCache,
    display: Display,
    *,
    begun: Moment | None = None,
) -> Run:
    """Carry a run out, from wherever an earlier start left it.

    Args:
        begun: when the user's waiting for this run began; now by default.

    Raises:
        KeyboardInterrupt: stopped by the user; the run can be resumed.
        EvalsuiteError: the engine or the disk failed; likewise.
    """
    ledger = Ledger(begun or now())
    ledger.lap("start")
    folder = settings.out / manifest.run_id
    scorer: Scorer[None] = Scorer(settings.sandbox)
    with Journal(folder, manifest) as journal, contextlib.closing(scorer):
        try:
            asked = sum(part.samples for part in manifest.tasks)
            display.status(
                f"plan: {len(tasks)} tasks, {asked} samples, {len(journal.done)} done, template"
                f" {manifest.checkpoint.chat_template}; loading {manifest.checkpoint.name}"
            )
            manifest.sandbox = scorer.open_for(planned.task for planned in tasks)
            engine = open_engine()
            ledger.lap("load")
            before = manifest.usage
            try:
                todo = agenda(
                    tasks, engine, cache, journal.done, retry_failed=settings.retry_failed
                )
                ledger.lap("plan")
                _wait(engine, todo, manifest)
                ledger.lap("load")
                display.plan(outlook(manifest, tasks, todo))
                manifest.first_forward = ledger.elapsed()
                try:
                    carry_out(todo, engine, cache, journal, display, ledger, scorer)
                finally:
                    manifest.engine = manifest.engine | engine.description
            finally:
                display.end()
                manifest.usage = _sum(before, engine.usage)
                _account(manifest, ledger, engine.work)
                engine.close()
        except BaseException as fault:
            stopped = isinstance(fault, (KeyboardInterrupt, GeneratorExit))
            manifest.status = "interrupted" if stopped else "failed"
            reason = fault.one_line() if isinstance(fault, EvalsuiteError) else repr(fault)
            manifest.warnings = (f"stopped: {reason}",)
            journal.write_manifest()
            raise
        manifest.counts = {"asked": todo.to_ask, "from_cache": todo.from_cache}
        manifest.finished = _now()
        finish(Run(folder, manifest))
        return Run(folder, manifest)


def _wait(engine: Engine, todo: Agenda, manifest: RunManifest) -> None:
    """Wait for the weights, as far as anything needs them, and write down what they are."""
    if todo.to_ask:
        engine.ready()
    manifest.engine = manifest.engine | engine.description
    manifest.checkpoint = msgspec.structs.replace(manifest.checkpoint, parameters=engine.parameters)


def _account(manifest: RunManifest, ledger: Ledger, work: Work) -> None:
    """Add what this start took to what earlier ones did."""
    earlier, taken = manifest.seconds, ledger.phases(work)
    manifest.seconds = {
        phase: round(earlier.get(phase, 0.0) + taken.get(phase, 0.0), 3)
        for phase in [*taken, *(earlier.keys() - taken.keys())]
    }
    manifest.cost = ledger.cost(work).after(manifest.cost, manifest.seconds)


def _sum(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: round(one.get(name, 0) + other.get(name, 0), 6) for name in one | other}


def finish(run: Run) -> None:
    """Sum a run's records up and write the results into its manifest."""
    manifest = run.manifest
    shorten = Shortener()
    by_task: dict[str, list[Record]] = {part.name: [] for part in manifest.tasks}
    for record in run.records():
        if record.task not in by_task:
            raise RunDamaged(
                f"a record of a task it does not have: {record.task!r}", where=str(run.path)
            )
        by_task[record.task].append(shorten(record))
    for part in manifest.tasks:
        if len(by_task[part.name]) != part.samples:
            raise RunIncomplete(
                f"{len(by_task[part.name])} records of {part.samples} samples of {part.name}",
                where=str(run.path),
                hint="start the run again: only what is missing is asked",
            )
    manifest.results = {
        part.name: summarise(part, sorted(by_task[part.name], key=lambda r: r.sample))
        for part in manifest.tasks
    }
    manifest.status = "failed" if _engine_answered_nothing(manifest) else "complete"
    manifest.warnings = tuple(_warnings(manifest))
    write_manifest(run.path, manifest)


def _engine_answered_nothing(manifest: RunManifest) -> bool:
    """Every sample failed for the engine's sake: broken weights, not a low score."""
    errors = error_counts(manifest.results)
    asked = sum(part.samples for part in manifest.tasks)
    return asked > 0 and sum(errors[code] for code in ENGINE_CODES) == asked


def outlook(manifest: RunManifest, tasks: Sequence[PlannedTask], todo: Agenda) -> Outlook:
    """The plan as it is shown before anything is computed."""
    lines = [
        TaskOutlook(
            part=planned.part,
            waiting=found.waiting,
            cached=found.cached,
            prompt_tokens=round(found.prompt_tokens / found.prompts) if found.prompts else 0,
        )
        for planned, found in zip(tasks, todo.by_task, strict=True)
    ]
    return Outlook(
        run_id=manifest.run_id,
        checkpoint=manifest.checkpoint.name,
        chat_template=manifest.checkpoint.chat_template,
        engine=" ".join(str(v) for v in list(manifest.engine.values())[:2]),
        tasks=lines,
        to_ask=todo.to_ask,
        prompt_tokens=todo.prompt_tokens,
        notes=_notes(tasks, todo),
    )


def _notes(tasks: Sequence[PlannedTask], todo: Agenda) -> list[str]:
    notes = []
    for planned in tasks:
        part = planned.part
        if part.data.path == "sample":
            notes.append(
                f"{part.name} runs on its small sample set; give real data with"
                f" --data {part.name.partition('/')[0]}=PATH"
            )
        if part.data.published == "differs":
            notes.append(f"{part.name}: the data is not the published set; its checksums differ")
        if part.data.bad_rows:
            notes.append(f"{part.name}: {len(part.data.bad_rows)} bad rows left out")
    cut = sum(found.cut for found in todo.by_task)
    if cut:
        notes.append(f"{cut} prompts are cut on the left to fit the context")
    failed = sum(found.unaskable for found in todo.by_task)
    if failed:
        notes.append(f"{failed} samples cannot be asked and will be error records")
    return notes


def _warnings(manifest: RunManifest) -> list[str]:
    warnings = []
    for name, result in manifest.results.items():
        for code, count in result.errors.items():
            warnings.append(f"{name}: {count} of {result.samples} samples without a score: {code}")
        if result.truncated:
            share = result.truncated / max(result.samples, 1)
            warnings.append(
                f"{name}: answers cut off at the token limit: {result.truncated} ({share:.0%})"
            )
        bad = next(p for p in manifest.tasks if p.name == name).data.bad_rows
        if bad:
            warnings.append(f"{name}: {len(bad)} bad rows were left out, first {bad[0]}")
    return warnings


def error_counts(results: dict[str, TaskResult]) -> Counter[str]:
    """Error code → how many samples of a run it left without a score."""
    return sum((Counter(result.errors) for result in results.values()), Counter())


def _environment() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
