"""Scoring the answers of a run again, without the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from evalsuite.decoding import parse_decoding
from evalsuite.errors import RunDamaged, RunIncomplete, RunsIncomparable
from evalsuite.evaluation import finish
from evalsuite.plan import PlannedTask, TaskChoice, plan_task
from evalsuite.record import Record, TaskPart
from evalsuite.sandbox import Kind
from evalsuite.scoring import Scorer
from evalsuite.store import Run, replace_records


def rescore(
    run: Run,
    data: Mapping[str, Path],
    task_path: Sequence[Path] = (),
    sandbox: Kind = "bubblewrap",
) -> int:
    """Replace the scores of every record by what the task's scorer says now.

    Args:
        data: task → where its data is now; otherwise where the run found it.
        sandbox: where the programs of code tasks run.

    Returns:
        How many samples score differently.

    Raises:
        RunIncomplete: the run is not finished.
        RunsIncomparable: the data is not what the run was asked from.
    """
    if run.manifest.status != "complete":
        raise RunIncomplete(
            f"the run is {run.manifest.status}", where=str(run.path), hint="resume it first"
        )
    planned = {
        part.name: _planned(part, data.get(part.name), task_path) for part in run.manifest.tasks
    }
    changed = 0

    def again() -> Iterator[Record]:
        for record in run.records():
            if record.task not in planned:
                raise RunDamaged(
                    f"a record of a task it does not have: {record.task!r}", where=str(run.path)
                )
            task, samples = planned[record.task]
            if record.sample not in samples:
                raise RunsIncomparable(
                    f"the task has no sample {record.sample!r} any more",
                    where=f"task {record.task}",
                    hint="its reading of the data has changed; run again",
                )
            sample = task.samples[samples[record.sample]]
            yield from map(counted, scorer.add(task, sample, record, record))
        yield from map(counted, scorer.rest())

    def counted(done: tuple[Record, Record]) -> Record:
        nonlocal changed
        old, fresh = done
        changed += (fresh.scores, fresh.error) != (old.scores, old.error)
        return fresh

    scorer: Scorer[Record] = Scorer(sandbox)
    with closing(scorer):
        run.manifest.sandbox = scorer.open_for(task.task for task, _ in planned.values())
        replace_records(run, again())
    run.manifest.tasks = tuple(_updated(part, planned[part.name][0]) for part in run.manifest.tasks)
    finish(run)
    return changed


def _planned(
    part: TaskPart, data: Path | None, task_path: Sequence[Path]
) -> tuple[PlannedTask, dict[str, int]]:
    if data is None and part.data.path != "sample":
        data = Path(part.data.path)
    choice = TaskChoice(
        label=part.name, variant=part.variant, num_fewshot=part.num_fewshot, data=data
    )
    planned = plan_task(
        choice,
        skip_bad_rows=bool(part.data.bad_rows),
        task_path=task_path,
        sampling=parse_decoding(part.sampling),
    )
    if sorted(planned.part.data.sha256.values()) != sorted(part.data.sha256.values()):
        raise RunsIncomparable(
            f"the data of {part.name} has changed since the run",
            where=planned.part.data.path,
            hint=f"give the old data with --data {part.name}=PATH, or run again",
        )
    return planned, {sample.id: index for index, sample in enumerate(planned.samples)}


def _updated(part: TaskPart, planned: PlannedTask) -> TaskPart:
    now = planned.part
    return msgspec.structs.replace(
        part, metrics=now.metrics, main_metric=now.main_metric, version=now.version
    )
