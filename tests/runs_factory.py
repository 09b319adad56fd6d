"""Runs made by hand: real records and manifests, in memory or on disk, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.metrics.metric import Metric
from evalsuite.record import (
    CheckpointPart,
    DataPart,
    Record,
    RunManifest,
    TaskPart,
    digest,
)
from evalsuite.request import Failure, Generated
from evalsuite.store import Run, open_run, replace_records, write_manifest
from evalsuite.summary import summarise

ACCURACY = Metric("accuracy")


class MemoryRun(Run):
    """A run without a folder."""

    def __init__(self, manifest: RunManifest, records: Sequence[Record]) -> None:
        super().__init__(Path("runs") / manifest.run_id, manifest)
        self._records = list(records)

    def records(self) -> Iterator[Record]:
        return iter(self._records)


def make_record(
    sample: str,
    score: float | list[float] | None = 1.0,
    *,
    task: str = "quiz",
    metric: str = "accuracy",
    text: str = "an answer",
    truncated: bool = False,
    **more: Any,
) -> Record:
    """One generated answer; ``score=None`` makes it a sample that the engine failed on."""
    if score is None:
        error = Failure("engine_failed", more.pop("message", "the device was lost"))
        return Record(task=task, sample=sample, error=error, **more)
    response = Generated(text, "length" if truncated else "stop")
    return Record(task=task, sample=sample, response=response, scores={metric: score}, **more)


def make_part(name: str = "quiz", **changes: Any) -> TaskPart:
    """A task of a run; its samples are counted by :func:`make_run`."""
    fields: dict[str, Any] = {
        "name": name,
        "title": name.capitalize(),
        "version": 1,
        "variant": "plain",
        "num_fewshot": 0,
        "main_metric": "accuracy",
        "metrics": (ACCURACY,),
        "samples": 0,
        "total": 0,
        "sample_ids_sha256": "",
        "data": DataPart(path="sample", sha256={"test.jsonl": digest(name)}),
    }
    return TaskPart(**(fields | changes))


def make_run(
    name: str,
    records: Sequence[Record],
    parts: Sequence[TaskPart] = (),
    *,
    checkpoint: dict[str, Any] | None = None,
    **changes: Any,
) -> MemoryRun:
    """A finished run over these records, summarised by the real summary."""
    full = []
    for part in parts or [make_part(task) for task in dict.fromkeys(r.task for r in records)]:
        ids = sorted(ascii(r.sample) for r in records if r.task == part.name)
        counted = {
            "samples": part.samples or len(ids),
            "total": part.total or len(ids),
            "sample_ids_sha256": part.sample_ids_sha256 or digest(ids),
        }
        full.append(msgspec.structs.replace(part, **counted))
    fields: dict[str, Any] = {
        "run_id": f"{name}-run",
        "status": "complete",
        "created": "2026-03-01T08:00:00+00:00",
        "finished": "2026-03-01T09:30:00+00:00",
        "evalsuite": "0.1.0",
        "command": ("evalsuite", "run", "--model", f"models/{name}", "--tasks", "all"),
        "checkpoint": CheckpointPart(
            **(
                {"name": name, "source": f"models/{name}", "fingerprint": digest(ascii(name))}
                | (checkpoint or {})
            )
        ),
        "engine": {"name": "replay"},
        "seed": 0,
        "limit": None,
        "tasks": tuple(full),
        "signature": digest([p.name for p in full]),
        "results": {
            part.name: summarise(part, [r for r in records if r.task == part.name]) for part in full
        },
    }
    return MemoryRun(RunManifest(**(fields | changes)), records)


def on_disk(run: MemoryRun, out: Path) -> Run:
    """Write a run as the store does, and open it from there."""
    folder = out / run.manifest.run_id
    folder.mkdir(parents=True)
    write_manifest(folder, run.manifest)
    replace_records(Run(folder, run.manifest), run.records())
    return open_run(folder)
