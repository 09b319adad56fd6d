"""``evalsuite run``: checkpoints through tasks."""

from __future__ import annotations

import fnmatch
import os
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from evalsuite.cli import options

if TYPE_CHECKING:
    from evalsuite.clock import Moment
    from evalsuite.contestant import Contestant
    from evalsuite.engines._serving import ServerOptions
    from evalsuite.evaluation import Settings
    from evalsuite.plan import PlannedTask, TaskChoice
    from evalsuite.report.displays import Display
    from evalsuite.store import Run


def run(
    model: options.Models,
    tasks: options.Tasks,
    data: options.Data = None,
    limit: options.Limit = None,
    num_fewshot: options.NumFewshot = None,
    variant: options.VariantOf = None,
    sampling: options.SamplingText = "",
    engine: options.EngineName = "auto",
    engine_option: options.EngineOption = None,
    chat_template: options.ChatTemplateName = "auto",
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    batch_tokens: options.BatchTokens = None,
    base_url: options.BaseUrl = "",
    key_variable: options.KeyVariable = "OPENAI_API_KEY",
    choices: options.Choices = options.ChoicesChoice.logprobs,
    tokenizer: options.TokenizerFolder = "",
    concurrency: options.Concurrency = 64,
    timeout: options.Timeout = 300.0,
    price: options.Price = "",
    out: options.Out = Path("runs"),
    seed: options.Seed = 0,
    dry_run: options.DryRun = False,
    sandbox: options.SandboxName = options.SandboxChoice.bubblewrap,
    retry_failed: options.RetryFailed = False,
    skip_bad_rows: options.SkipBadRows = False,
    no_cache: options.NoCache = False,
    task_path: options.TaskPath = None,
    trust_remote_code: options.TrustRemoteCode = False,
    base: options.Base = None,
    display: options.Display = options.DisplayChoice.auto,
) -> int:
    """Run tasks on checkpoints. The same command resumes a run that was stopped."""
    from evalsuite.cli.pairs import by_key
    from evalsuite.contestant import EngineOptions, find_contestants
    from evalsuite.decoding import parse_decoding
    from evalsuite.evaluation import Settings
    from evalsuite.plan import plan_task
    from evalsuite.report.displays import open_display

    let_waiting_threads_sleep()
    asked = _choices(_names(",".join(tasks)), data, variant, num_fewshot)
    server = _server(
        engine, base_url, key_variable, choices, tokenizer, concurrency, timeout, price
    )
    if server is not None:
        _refuse_local(dtype, device, batch_tokens, base, trust_remote_code)
    decoding = parse_decoding(sampling)
    shown = open_display(display.value)
    contestants = find_contestants(
        model,
        EngineOptions(
            engine=engine,
            chat_template=chat_template,
            dtype=dtype,
            device=device,
            batch_tokens=batch_tokens,
            trust_remote_code=trust_remote_code,
            base=base,
            server=server,
            engine_options=by_key("--engine-option", engine_option or []),
        ),
    )
    planned = [
        plan_task(
            choice,
            limit=limit,
            seed=seed,
            skip_bad_rows=skip_bad_rows,
            task_path=task_path or (),
            sampling=decoding,
        )
        for choice in asked
    ]
    command = ("evalsuite", *sys.argv[1:])
    settings = Settings(
        out=out,
        seed=seed,
        limit=limit,
        retry_failed=retry_failed,
        sandbox=sandbox.value,
        command=command,
    )
    if dry_run:
        return _show_plans(contestants, planned, settings, shown)
    return _run_all(contestants, planned, settings, shown, no_cache=no_cache)


def _server(
    engine: str,
    base_url: str,
    key_variable: str,
    choices: options.ChoicesChoice,
    tokenizer: str,
    concurrency: int,
    timeout: float,
    price: str,
) -> ServerOptions | None:
    """The server that is asked, or None where models are run here."""
    from evalsuite.errors import BadOption

    if engine != "openai" and not (engine == "auto" and base_url):
        if base_url:
            raise BadOption("a server is asked by openai", where=f"--engine {engine}")
        return None
    from evalsuite.engines._server import Patience
    from evalsuite.engines._serving import ServerOptions
    from evalsuite.engines._usage import parse_price

    return ServerOptions(
        base_url=base_url or os.environ.get("OPENAI_BASE_URL", ""),
        key_variable=key_variable,
        concurrency=concurrency,
        price=parse_price(price),
        choices=choices.value,
        tokenizer=tokenizer,
        patience=Patience(seconds=timeout),
    )


def _refuse_local(
    dtype: str, device: str, batch_tokens: int | None, base: str | None, trust: bool
) -> None:
    from evalsuite.errors import BadOption

    given = {
        "--dtype": dtype != "auto",
        "--device": device != "auto",
        "--batch-tokens": batch_tokens is not None,
        "--base": base is not None,
        "--trust-remote-code": trust,
    }
    for name, used in given.items():
        if used:
            raise BadOption(f"{name} is for models that are run here", where="--base-url")


def let_waiting_threads_sleep() -> None:
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


def _run_all(
    contestants: list[Contestant],
    planned: list[PlannedTask],
    settings: Settings,
    display: Display,
    *,
    no_cache: bool,
) -> int:
    """Run one model after the other; returns the exit code."""
    from evalsuite.clock import now, process_start
    from evalsuite.errors import ENGINE_CODES
    from evalsuite.evaluation import error_counts

    runs = []
    for number, contestant in enumerate(contestants):
        begun = now() if number else process_start()
        runs.append(_run_one(contestant, planned, settings, display, begun, no_cache=no_cache))
    for used in (run.manifest.usage for run in runs if run.manifest.usage.get("requests")):
        display.status(
            "used: " + ", ".join(f"{k.replace('_', ' ')} {v:,.12g}" for k, v in used.items())
        )
    display.status(f"next: {_next_command(runs)}")
    errors = sum((error_counts(run.manifest.results) for run in runs), Counter[str]())
    if errors:
        display.status(f"without a score: {errors.total()}; ask them again with --retry-failed")
    return 4 if ENGINE_CODES & errors.keys() else 3 if errors else 0


def _run_one(
    contestant: Contestant,
    planned: list[PlannedTask],
    settings: Settings,
    display: Display,
    begun: Moment,
    *,
    no_cache: bool,
) -> Run:
    from evalsuite.cache import AnswerCache
    from evalsuite.evaluation import evaluate, finished_run, new_manifest
    from evalsuite.files import home

    manifest = new_manifest(contestant, planned, settings)
    run = finished_run(manifest, settings)
    if run is not None:
        display.status(f"{manifest.run_id} is complete; nothing to compute")
    else:
        keep = not no_cache and contestant.engine["name"] != "replay"
        cache = AnswerCache(home() / "answers.sqlite" if keep else None)
        try:
            run = evaluate(
                manifest, planned, contestant.open_engine, settings, cache, display, begun=begun
            )
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


def _show_plans(
    contestants: list[Contestant],
    planned: list[PlannedTask],
    settings: Settings,
    display: Display,
) -> int:
    for contestant in contestants:
        _show_plan(contestant, planned, settings, display)
    return 0


def _show_plan(
    contestant: Contestant, planned: list[PlannedTask], settings: Settings, display: Display
) -> None:
    from evalsuite.agenda import agenda
    from evalsuite.cache import AnswerCache
    from evalsuite.evaluation import new_manifest, outlook
    from evalsuite.files import home
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
