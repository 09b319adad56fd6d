"""Ladders made by hand: runs of several stages and seeds, with rewards, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from runs_factory import MemoryRun, make_part, make_record, make_run

from evalsuite.record import digest
from evalsuite.reward import Reward, RewardSource, RewardTable, conversation

RM = RewardSource(
    name="tiny-rm", source="m/tiny-rm", fingerprint="f" * 64, template="none", template_sha256="0"
)


class RewardedRun(MemoryRun):
    """A run in memory with a table of rewards."""

    table: RewardTable | None = None


def rewards_in_memory(run: Any) -> list[RewardTable]:
    """In place of reading them from the run's folder."""
    return [run.table] if getattr(run, "table", None) else []


def ladder_run(
    name: str,
    scores: Mapping[str, Sequence[float | None]],
    *,
    stage: str,
    parent: str = "",
    seed: int | None = 1,
    texts: Mapping[str, Sequence[str]] | None = None,
    rewards: Mapping[str, Sequence[float]] | None = None,
    temperature: float = 0.0,
    family: str = "tiny",
    run_seed: int = 0,
    domain: str = "open generation",
    tags: Mapping[str, str] | None = None,
    truncated: Sequence[int] = (),
    **changes: Any,
) -> RewardedRun:
    """A finished run over tasks; ``scores[task][i]`` is of sample ``q{i}``."""
    records = [
        make_record(
            f"q{i}",
            score,
            task=task,
            text=(texts or {}).get(task, [])[i] if (texts or {}).get(task) else f"{name} {i}",
            prompt=f"{task} question {i}?",
            target=f"target {i}",
            tags={"category": "ab"[i % 2]} if tags is None else dict(tags),
            truncated=i in truncated,
            **({"answer": "x"} if score is not None else {}),
        )
        for task, values in scores.items()
        for i, score in enumerate(values)
    ]
    sampling = f"temperature={temperature:g}" if temperature else ""
    parts = [make_part(task, domain=domain, sampling=sampling) for task in scores]
    run_id = f"{name}-{seed}-{temperature}-{run_seed}"
    run = make_run(name, records, parts, run_id=run_id, **changes)
    run.manifest.checkpoint = msgspec.structs.replace(
        run.manifest.checkpoint,
        fingerprint=digest([name, seed]),
        family=family,
        stage=stage,
        seed=seed,
        parent=parent or None,
    )
    run.manifest.seed = run_seed
    own = RewardedRun(run.manifest, list(run.records()))
    if rewards:
        own.table = RewardTable(RM, _lines(own, rewards))
    return own


def _lines(run: MemoryRun, rewards: Mapping[str, Sequence[float]]) -> dict[Any, Reward]:
    found = {}
    for record in run.records():
        asked = conversation(record, {})
        if asked is not None and record.task in rewards:
            value = rewards[record.task][int(record.sample[1:])]
            found[record.task, record.sample] = Reward(
                record.task, record.sample, asked.key, float(value), not asked.finished
            )
    return found


def without_card(run: RewardedRun) -> RewardedRun:
    """The run as a version wrote it that knew neither seed nor parent."""
    run.manifest.checkpoint = msgspec.structs.replace(
        run.manifest.checkpoint, seed=None, parent=None
    )
    return run
