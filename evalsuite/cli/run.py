"""``evalsuite run``: checkpoints through tasks."""

from __future__ import annotations

import enum
import fnmatch
import os
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evalsuite.contestant import Contestant
    from evalsuite.evaluation import Settings
    from evalsuite.plan import PlannedTask, TaskChoice
    from evalsuite.report.displays import Display
    from evalsuite.store import Run


class DisplayChoice(enum.StrEnum):
    """How progress is shown."""

    auto = "auto"
    rich = "rich"
    plain = "plain"
    json = "json"


def run(
    model: Annotated[
        list[str],
        typer.Option(
            help="A checkpoint of any form, a hub id[@revision], or replay:FILE. Repeatable."
        ),
    ],
    tasks: Annotated[
        list[str],
        typer.Option(
            help="Task names with commas, ladder_* for a group, or all; NAME/SUBSET takes a part."
        ),
    ],
    data: Annotated[
        list[str] | None, typer.Option(help="TASK=PATH of real data in its official layout.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="A seeded, stratified subset of N samples a task.")
    ] = None,
    num_fewshot: Annotated[
        list[str] | None, typer.Option(help="K examples for every task, or TASK=K.")
    ] = None,
    variant: Annotated[list[str] | None, typer.Option(help="TASK=VARIANT of the prompt.")] = None,
    sampling: Annotated[
        str, typer.Option(help="greedy, or temperature=1,top_p=0.85,… instead of the tasks' own.")
    ] = "",
    engine: Annotated[str, typer.Option(help="auto, transformers or replay:FILE.")] = "auto",
    chat_template: Annotated[
        str, typer.Option(help="auto, none, or a built-in template by name.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(help="auto, float32, bfloat16, float16, or quantised here: int8, int4.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens in one batch; found automatically.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    seed: Annotated[int, typer.Option(help="For --limit and for sampling.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and one exact prompt a task.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask samples again whose record is an error.")
    ] = False,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave malformed data rows out, and count them.")
    ] = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Compute answers that an earlier run knows.")
    ] = False,
    task_path: Annotated[
        list[Path] | None, typer.Option(help="A folder of task plugins. Repeatable.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the checkpoint's own Python code.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="The base of a delta or adapter, if it lies elsewhere.")
    ] = None,
    display: Annotated[DisplayChoice, typer.Option(help="How to show progress.")] = (
        DisplayChoice.auto
    ),
) -> int:
    """Run tasks on checkpoints. The same command resumes a run that was stopped."""
    from evalsuite.contestant import EngineOptions, find_contestants
    from evalsuite.decoding import parse_decoding
    from evalsuite.errors import ENGINE_CODES
    from evalsuite.evaluation import Settings, error_counts
    from evalsuite.plan import plan_task
    from evalsuite.report.displays import open_display

    _let_waiting_threads_sleep()
    choices = _choices(_names(",".join(tasks)), data, variant, num_fewshot)
    options = EngineOptions(
        engine=engine,
        chat_template=chat_template,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
        trust_remote_code=trust_remote_code,
        base=base,
    )
    decoding = parse_decoding(sampling)
    shown = open_display(display.value)
    contestants = find_contestants(model, options)
    planned = [
        plan_task(
            choice,
            limit=limit,
            seed=seed,
            skip_bad_rows=skip_bad_rows,
            task_path=task_path or (),
            sampling=decoding,
        )
        for choice in choices
    ]
    settings = Settings(
        out=out,
        seed=seed,
        limit=limit,
        retry_failed=retry_failed,
        command=("evalsuite", *sys.argv[1:]),
    )
    if dry_run:
        for contestant in contestants:
            _show_plan(contestant, planned, settings, shown)
        return 0
    runs = [_run_one(c, planned, settings, shown, no_cache=no_cache) for c in contestants]
    shown.status(f"next: {_next_command(runs)}")
    errors = sum((error_counts(run.manifest.results) for run in runs), Counter[str]())
    if errors:
        shown.status(f"without a score: {errors.total()}; ask them again with --retry-failed")
    return 4 if ENGINE_CODES & errors.keys() else 3 if errors else 0


def _let_waiting_threads_sleep() -> None:
    """OpenMP's threads spin while they wait; on busy cores that slows a run tenfold and more.

    Read once, when torch is imported; what the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")


def _names(tasks: str) -> list[str]:
    from evalsuite.errors import BadOption
    from evalsuite.registry import task_names

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise BadOption("no task", where="--tasks", hint="`evalsuite tasks` lists them")
    if names == ["all"]:
        return list(task_names())
    groups = [fnmatch.filter(task_names(), name) if "*" in name else [name] for name in names]
    if empty := [name for name, group in zip(names, groups, strict=True) if not group]:
        raise BadOption(f"no task is named like {empty[0]!r}", where="--tasks")
    return list(dict.fromkeys(name for group in groups for name in group))


def _choices(
    names: list[str],
    data: list[str] | None,
    variant: list[str] | None,
    num_fewshot: list[str] | None,
) -> list[TaskChoice]:
    from evalsuite.cli.pairs import by_task
    from evalsuite.errors import BadOption
    from evalsuite.plan import TaskChoice

    folders = by_task("--data", data or [], names)
    variants = by_task("--variant", variant or [], names)
    everywhere = [value for value in num_fewshot or [] if "=" not in value]
    shots = by_task("--num-fewshot", [v for v in num_fewshot or [] if "=" in v], names)
    for count in [*everywhere, *filter(None, shots.values())]:
        if not (count.isdecimal() and len(count) < 6):
            raise BadOption(f"{count!r} is not a number", where="--num-fewshot")
    common = everywhere[-1] if everywhere else ""
    return [
        TaskChoice(
            label=name,
            variant=variants[name] or None,
            num_fewshot=int(shots[name] or common) if shots[name] or common else None,
            data=Path(folders[name]).expanduser() if folders[name] else None,
        )
        for name in names
    ]


def _run_one(
    contestant: Contestant,
    planned: list[PlannedTask],
    settings: Settings,
    display: Display,
    *,
    no_cache: bool,
) -> Run:
    from evalsuite.cache import AnswerCache, home
    from evalsuite.evaluation import evaluate, finished_run, new_manifest

    manifest = new_manifest(contestant, planned, settings)
    run = finished_run(manifest, settings)
    if run is not None:
        display.status(f"{manifest.run_id} is complete; nothing to compute")
    else:
        keep = not no_cache and contestant.engine["name"] != "replay"
        cache = AnswerCache(home() / "answers.sqlite" if keep else None)
        try:
            run = evaluate(manifest, planned, contestant.open_engine, settings, cache, display)
        except KeyboardInterrupt:
            display.status("stopped; everything finished is saved. Resume with:")
            display.status(f"  {shlex.join(settings.command)}")
            raise
        finally:
            if cache.problem:
                display.status(f"note: {cache.problem}")
            cache.close()
    display.results(run.manifest, run.path)
    return run


def _next_command(runs: list[Run]) -> str:
    if len(runs) > 1:
        return shlex.join(["evalsuite", "compare", str(runs[0].path), str(runs[-1].path)])
    tags = [tag for r in runs[0].manifest.results.values() for m in r.by_tag.values() for tag in m]
    by = ["--by", tags[0]] if tags else ["--json"]
    return shlex.join(["evalsuite", "show", str(runs[0].path), *by])


def _show_plan(
    contestant: Contestant, planned: list[PlannedTask], settings: Settings, display: Display
) -> None:
    from evalsuite.cache import AnswerCache, home
    from evalsuite.evaluation import new_manifest, outlook
    from evalsuite.runner import agenda
    from evalsuite.store import recorded

    manifest = new_manifest(contestant, planned, settings)
    done = recorded(settings.out / manifest.run_id)
    file = home() / "answers.sqlite"
    cache = AnswerCache(file if file.is_file() else None)
    engine = contestant.open_engine()
    try:
        todo = agenda(planned, engine, cache, done, retry_failed=settings.retry_failed)
        display.plan(outlook(manifest, planned, todo))
        display.end()
        for task in planned:
            sample, request = task.samples[0], task.requests[0]
            [ready] = engine.prepare([f"{task.task.meta.name}/{sample.id}"], [request])
            display.prompt(task.part.name, sample.id, engine.shown_prompt(ready))
    finally:
        engine.close()
        cache.close()
