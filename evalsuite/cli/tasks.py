"""``evalsuite tasks``: list, show, check and begin task plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from evalsuite.cli.options import TaskPath

tasks = typer.Typer(
    help="The tasks: list them, show one, check one, write a new one.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@tasks.callback()
def _list(context: typer.Context, task_path: TaskPath = None) -> None:
    """List the tasks, or use a command below."""
    if context.invoked_subcommand is None:
        list_tasks(task_path)


@tasks.command("list")
def list_tasks(task_path: TaskPath = None) -> None:
    """List every task that can be run."""
    from rich.table import Table

    from evalsuite.registry import load_task, task_names
    from evalsuite.report.tables import print_table

    table = Table()
    for column in ("task", "what", "languages", "variants", "main metric", "licence of the data"):
        table.add_column(column, overflow="fold")
    for name in task_names(task_path or ()):
        task = load_task(name, task_path or ())
        meta = task.meta
        variants = ", ".join(v.name for v in task.variants)
        table.add_row(
            name, meta.title, " ".join(meta.languages), variants, meta.main_metric, meta.licence
        )
    print_table(table)


@tasks.command("show")
def show_task(
    name: str,
    variant: Annotated[str | None, typer.Option(help="Which prompt to show.")] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="How many examples.")] = None,
    data: Annotated[Path | None, typer.Option(help="Real data in its official layout.")] = None,
    task_path: TaskPath = None,
) -> None:
    """Print a task's metadata and one exact prompt."""
    from evalsuite.plan import TaskChoice, plan_task
    from evalsuite.report.visible import visible

    choice = TaskChoice(label=name, variant=variant, num_fewshot=num_fewshot, data=data)
    planned = plan_task(choice, task_path=task_path or ())
    for key, value in _metadata(planned).items():
        print(f"{key:<12} {visible(value)}")
    request = planned.requests[0]
    print(f"\nprompt of sample {planned.samples[0].id} (before any chat template):\n")
    print(visible(request.prompt.full))
    choices = getattr(request, "choices", None)
    if choices:
        print(f"\nchoices: {visible(repr(list(choices)))}")


@tasks.command("check")
def check_tasks(
    names: Annotated[
        list[str] | None, typer.Argument(help="Tasks to check; all of them by default.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Write the prompts as they are now into the file.")
    ] = False,
    task_path: TaskPath = None,
) -> int:
    """Validate tasks without a model: gold scores 1, empty scores 0, prompts as recorded."""
    from evalsuite.registry import load_task, task_names
    from evalsuite.validation import check, update_golden

    unsound = 0
    for name in names or list(task_names(task_path or ())):
        task = load_task(name, task_path or ())
        if update:
            print(f"wrote {update_golden(task)}")
        problems = check(task)
        unsound += bool(problems)
        for problem in problems:
            print(f"{name}: {problem}")
        print(f"{name}: {'sound' if not problems else f'{len(problems)} problems'}")
    return 1 if unsound else 0


@tasks.command("new")
def new_task(
    name: str,
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = Path(),
) -> None:
    """Write the skeleton of a task with its golden cases."""
    from evalsuite.scaffold import new_task as write_skeleton

    for file in write_skeleton(name, folder):
        print(f"wrote {file}")
    where = f"--task-path {folder}"
    print(f"next: evalsuite tasks check {name} {where}")
    print(f"      evalsuite run --model CHECKPOINT --tasks {name} {where}")


def _metadata(planned: Any) -> dict[str, str]:
    task, part = planned.task, planned.part
    meta, source = task.meta, task.meta.source
    hub = f" ({source.hub} at {source.revision})" if source.hub else ""
    variants = [f"{v.name} ({v.num_fewshot}-shot) {v.description}".strip() for v in task.variants]
    metrics = [
        m.name + (f" (macro over {m.macro_over})" if m.macro_over else "") for m in part.metrics
    ]
    known = [f"{name} {checksum[:16]}…" for name, checksum in source.sha256.items()]
    checksums = ", ".join(known) or "none known; those of the files read are recorded in each run"
    return {
        "task": f"{meta.name} (version {meta.version}): {meta.title}",
        "about": meta.description,
        "languages": ", ".join(meta.languages),
        "domain": meta.domain,
        "licence": meta.licence,
        "citation": meta.citation,
        "source": f"{source.url}{hub}",
        "layout": source.layout,
        "sha256": checksums,
        "variants": "; ".join(variants),
        "metrics": ", ".join(metrics),
        "main metric": part.main_metric,
        "samples": f"{part.samples} in {part.data.path}",
    }
