"""From runs to the contents of a leaderboard page.

Manifests are read first; they hold all scores. The records are then read twice, run by run: once to
find the samples on which the checkpoints differ, and once for the texts of the few that are shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import msgspec

from evalsuite.measurements import Bench
from evalsuite.metrics.metric import Metric
from evalsuite.record import CheckpointPart, Record, RunManifest, TaskPart
from evalsuite.report.board import Board, Cell, Column, Row, RunEntry
from evalsuite.report.cost import shown_memory, shown_seconds, shown_tokens
from evalsuite.report.pareto import measured_points, protocol_of
from evalsuite.report.samples import SamplePicker
from evalsuite.report.words import WORDS
from evalsuite.stats.paired import paired_difference
from evalsuite.store import Run

_RowKey = tuple[str, str, str]


class _Source(msgspec.Struct, frozen=True):
    """Where a cell's records come from."""

    run: Run
    task: str


def collect(
    title: str,
    language: str,
    tasks: Sequence[tuple[str, str]],
    runs: Sequence[Run],
    *,
    baseline: str = "",
    sort: str = "",
    benches: Sequence[Bench] = (),
) -> Board:
    """Gather a page.

    Args:
        tasks: (task, metric), in order; an empty metric stands for the task's main one.
        baseline: checkpoint name or run id, or empty.
        sort: task to sort by, or empty.
        benches: records of speed and memory, the oldest first.

    Raises:
        RunDamaged: records that cannot be read, or lack their statistics.
    """
    newest_first = sorted(runs, key=lambda run: (_moment(run), run.manifest.run_id), reverse=True)
    finished = [run for run in newest_first if run.manifest.status == "complete"]
    keys = list(dict.fromkeys(_row_key(run.manifest) for run in reversed(newest_first)))
    base = next((_row_key(r.manifest) for r in newest_first if _is(r.manifest, baseline)), None)
    parts_of = [_columns(task, metric, finished) for task, metric in tasks]
    columns = [column for group in parts_of for column in group]
    mine = {key: [run for run in newest_first if _row_key(run.manifest) == key] for key in keys}
    grid: list[list[Cell]] = []
    sources: list[list[_Source | None]] = []
    for key in keys:
        found = [_cell(column, protocol, mine[key]) for column, protocol in columns]
        grid.append([cell for cell, _ in found])
        sources.append([source for _, source in found])
    only_columns = [column for column, _ in columns]
    base_row = keys.index(base) if base is not None else None
    pickers = [SamplePicker(column.metric, WORDS[language]) for column in only_columns]
    _read_records(only_columns, grid, sources, base_row, pickers)
    sort_column = next((c.key for c in only_columns if c.task == sort), "")
    measured, points = measured_points(columns, finished, benches)
    return Board(
        title=title,
        language=language,
        newest=_moment(finished[0]) if finished else "",
        rows=_rows(keys, mine, base),
        columns=tuple(only_columns),
        cells=tuple(tuple(line) for line in grid),
        samples=tuple(picker.chosen() for picker in pickers),
        runs=tuple(_run_entry(run, WORDS[language]) for run in newest_first),
        sort=sort_column or (only_columns[0].key if only_columns else ""),
        measured=measured,
        points=points,
    )


def _is(manifest: RunManifest, name: str) -> bool:
    return bool(name) and name in (manifest.checkpoint.name, manifest.run_id)


def _moment(run: Run) -> str:
    return run.manifest.finished or run.manifest.created


def _row_key(manifest: RunManifest) -> _RowKey:
    checkpoint = manifest.checkpoint
    return checkpoint.name, checkpoint.fingerprint, checkpoint.chat_template


def _columns(task: str, metric: str, finished: Sequence[Run]) -> list[tuple[Column, str]]:
    """The columns of a task, one for each protocol that was used; at least one."""
    parts: dict[str, TaskPart] = {}
    for run in finished:
        for part in run.manifest.tasks:
            if part.name == task and _metric(part, metric) is not None:
                parts.setdefault(protocol_of(part), part)
    if not parts:
        return [(Column(key=_slug(task, metric, 0), task=task, title=task, metric=None), "")]
    return [
        (
            Column(
                key=_slug(task, metric, number),
                task=task,
                title=part.title,
                metric=_metric(part, metric),
                protocol=f"{part.variant} · {part.num_fewshot}-shot · v{part.version}",
                total=part.total,
            ),
            protocol,
        )
        for number, (protocol, part) in enumerate(parts.items())
    ]


def _slug(task: str, metric: str, number: int) -> str:
    return ".".join([task, *([metric] if metric else []), *([str(number + 1)] if number else [])])


def _metric(part: TaskPart, name: str) -> Metric | None:
    return next((m for m in part.metrics if m.name == (name or part.main_metric)), None)


def _cell(column: Column, protocol: str, runs: Sequence[Run]) -> tuple[Cell, _Source | None]:
    """The score of the run that asked the most samples, the newest of those; or why there is none."""
    reason, detail = "not_run", ""
    for run in sorted(runs, key=lambda run: -_asked(run.manifest, column.task)):
        manifest = run.manifest
        part = next((p for p in manifest.tasks if p.name == column.task), None)
        if part is None:
            continue
        if manifest.status != "complete":
            reason, detail = "unfinished", manifest.status
        elif column.metric is None or column.metric not in part.metrics:
            reason, detail = "no_metric", ", ".join(m.name for m in part.metrics)
        elif protocol_of(part) != protocol:
            reason, detail = "other_protocol", f"{part.variant} · {part.num_fewshot}-shot"
        elif (cell := _scored(column.metric, part, manifest)) is not None:
            return cell, _Source(run, part.name)
        else:
            reason, detail = "not_scored", ""
    return Cell(reason=reason, detail=detail), None


def _asked(manifest: RunManifest, task: str) -> int:
    return next((part.samples for part in manifest.tasks if part.name == task), 0)


def _scored(metric: Metric, part: TaskPart, manifest: RunManifest) -> Cell | None:
    result = manifest.results.get(part.name)
    if result is None or metric.name not in result.metrics:
        return None
    interval = result.metrics[metric.name]
    codes = ", ".join(f"{code} ×{count:,}" for code, count in result.errors.items())
    return Cell(
        interval=interval if interval.n else None,
        reason="" if interval.n else "no_score",
        detail="" if interval.n else codes,
        run_id=manifest.run_id,
        samples=result.samples,
        errors=result.errors,
        truncated=result.truncated,
        by_tag=result.by_tag.get(metric.name, {}),
    )


def _rows(
    keys: Sequence[_RowKey], mine: dict[_RowKey, list[Run]], base: _RowKey | None
) -> tuple[Row, ...]:
    return tuple(
        Row(
            name=_unique_name(key, keys),
            stage=_stage(mine[key][0].manifest.checkpoint),
            template=key[2],
            is_baseline=key == base,
        )
        for key in keys
    )


def _unique_name(key: _RowKey, keys: Sequence[_RowKey]) -> str:
    """The checkpoint's name, with whatever tells it from others of that name."""
    name, fingerprint, template = key
    twins = [other for other in keys if other[0] == name]
    telling = [fingerprint[:8]] if len({other[1] for other in twins}) > 1 else []
    telling += [template] if len({other[2] for other in twins}) > 1 else []
    return f"{name} ({', '.join(telling)})" if telling else name


def _stage(checkpoint: CheckpointPart) -> str:
    step = f"step {checkpoint.step:,}" if checkpoint.step is not None else ""
    return " · ".join(word for word in (checkpoint.stage.upper(), step) if word)


def _read_records(
    columns: Sequence[Column],
    grid: list[list[Cell]],
    sources: list[list[_Source | None]],
    base_row: int | None,
    pickers: Sequence[SamplePicker],
) -> None:
    """Fill the differences to the baseline in, and pick the samples to show."""
    order = sorted(range(len(sources)), key=lambda row: row != base_row)
    base_records: dict[int, list[Record]] = {}
    for row in order:
        kept: dict[int, list[Record]] = {i: [] for i, s in enumerate(sources[row]) if s is not None}
        for index, record in _records(sources[row]):
            pickers[index].add(row, record)
            if base_row is not None:
                kept[index].append(_score_only(record, columns[index].metric))
        if row == base_row:
            base_records = kept
            continue
        for index in kept.keys() & base_records.keys():
            difference = paired_difference(
                _known(columns[index].metric), base_records[index], kept[index]
            )
            grid[row][index] = msgspec.structs.replace(grid[row][index], difference=difference)
    for picker in pickers:
        picker.choose()
    for row in range(len(sources)):
        for index, record in _records(sources[row]):
            pickers[index].add_text(row, record)


def _records(sources: Sequence[_Source | None]) -> Iterator[tuple[int, Record]]:
    """The records of a row with the columns they belong to; each run is read once."""
    runs: dict[str, Run] = {}
    columns: dict[str, dict[str, list[int]]] = {}
    for index, source in enumerate(sources):
        if source is not None:
            run_id = source.run.manifest.run_id
            runs[run_id] = source.run
            columns.setdefault(run_id, {}).setdefault(source.task, []).append(index)
    for run_id, run in runs.items():
        for record in run.records():
            for index in columns[run_id].get(record.task, ()):
                yield index, record


def _known(metric: Metric | None) -> Metric:
    """A column has a metric as soon as any run has a score in it."""
    assert metric is not None
    return metric


def _score_only(record: Record, column: Metric | None) -> Record:
    metric = _known(column)
    scores = {k: v for k, v in record.scores.items() if k == metric.source}
    return Record(
        task=record.task,
        sample=record.sample,
        tags={k: v for k, v in record.tags.items() if k == metric.macro_over},
        cluster=record.cluster,
        error=record.error,
        scores=scores,
    )


def _run_entry(run: Run, words: dict[str, str]) -> RunEntry:
    manifest = run.manifest
    checkpoint = manifest.checkpoint
    engine = [str(v) if k == "name" else f"{k} {v}" for k, v in manifest.engine.items()]
    return RunEntry(
        run_id=manifest.run_id,
        name=checkpoint.name,
        status=manifest.status,
        finished=_moment(run),
        source=checkpoint.source,
        fingerprint=checkpoint.fingerprint,
        template=checkpoint.chat_template,
        engine=" · ".join(engine),
        evalsuite=manifest.evalsuite,
        command=shlex.join(manifest.command),
        signatures=tuple(manifest.signature.splitlines()),
        warnings=manifest.warnings,
        seconds=shown_seconds(manifest.seconds),
        tokens=shown_tokens(manifest.cost, words["asked"], words["computed"]),
        memory=shown_memory(manifest.cost),
    )
