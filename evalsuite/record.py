"""What is written down: one :class:`Record` a sample, one :class:`RunManifest` a run.

``SCHEMA`` stands in the manifest and is raised when a field of either changes its meaning.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from evalsuite import lines
from evalsuite.metrics.metric import Metric
from evalsuite.request import Failure, Response

SCHEMA = 1

Status = Literal["running", "interrupted", "failed", "complete"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sample of one task: what was asked, what came back, what it scored.

    Attributes:
        sample: the sample's id; (task, sample) is unique in a run.
        key: content key of the request (checkpoint, tokens, sampling); equal keys, equal answers.
        prompt: the sample's own part of the prompt; the shared part is ``prefixes.json[prefix]``.
        response: None exactly when ``error`` is set by the engine.
        error: why there is no answer or no score; then ``scores`` is empty, never zero.
        answer: what the scorer understood the answer to be; None when it found none.
        cached: the answer came from the cache of an earlier run.
    """

    task: str
    sample: str
    tags: dict[str, str] = {}
    cluster: str = ""
    key: str = ""
    prompt: str = ""
    prefix: str = ""
    target: Any = None
    response: Response | None = None
    error: Failure | None = None
    scores: dict[str, float | list[float]] = {}
    answer: str | None = None
    cached: bool = False


class Interval(msgspec.Struct, frozen=True):
    """An estimate with its two-sided confidence interval, in the metric's own unit (0..1 or points).

    ``value`` is nan when nothing was measured; ``n`` counts the samples behind it.
    """

    value: float
    low: float
    high: float
    n: int
    method: str = ""
    level: float = 0.95


class TaskResult(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of one task.

    Attributes:
        metrics: metric → overall estimate.
        by_tag: metric → tag → value of that tag → estimate.
        errors: error code → number of samples without a score.
        truncated: answers cut off at the token limit.
        extracted: share of scored samples in which an answer was found; nan if none was scored.
    """

    samples: int
    scored: int
    errors: dict[str, int]
    truncated: int
    extracted: float
    metrics: dict[str, Interval]
    by_tag: dict[str, dict[str, dict[str, Interval]]]


class DataPart(msgspec.Struct, frozen=True, kw_only=True):
    """The data that a task was run on.

    Attributes:
        path: as the user gave it, or ``sample`` for the set shipped with the task.
        sha256: file → checksum of every file read.
        bad_rows: rows left out with ``--skip-bad-rows``.
        published: whether the files are the published ones, by the checksums that the task knows.
        revision: what ``evalsuite fetch`` resolved, where it fetched this folder.
    """

    path: str
    sha256: dict[str, str]
    bad_rows: tuple[str, ...] = ()
    published: Literal["yes", "differs", "unknown"] = "unknown"
    revision: str = ""


class TaskPart(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a run, complete enough for reports to need no plugin.

    Attributes:
        subset: only samples with this tag value were asked (``--tasks mgsm/zh``); empty for all.
        sample_ids_sha256: checksum of the sample ids asked, in order.
        sampling: what ``--sampling`` changed of the task's own settings; empty for nothing.
        samples: how many were asked, after ``--limit``.
        total: how many the data holds, before ``--limit``.
    """

    name: str
    title: str
    version: int
    subset: str = ""
    variant: str
    num_fewshot: int
    main_metric: str
    metrics: tuple[Metric, ...]
    samples: int
    total: int
    sample_ids_sha256: str
    data: DataPart
    licence: str = ""
    citation: str = ""
    languages: tuple[str, ...] = ()
    domain: str = ""
    sampling: str = ""


class CheckpointPart(msgspec.Struct, frozen=True, kw_only=True):
    """The checkpoint of a run. ``fingerprint`` hashes all that can change an answer."""

    name: str
    source: str
    fingerprint: str
    family: str = ""
    stage: str = ""
    step: int | None = None
    seed: int | None = None
    parent: str | None = None
    parameters: int | None = None
    chat_template: str = "none"


class RunManifest(msgspec.Struct, kw_only=True):
    """``run.json``: all that is needed to understand and repeat a run.

    Attributes:
        signature: what must be equal for two runs' scores to mean the same, except the checkpoint.
        engine: name, version, dtype and whatever else changes numbers.
        command: the arguments of ``evalsuite run``, to repeat or resume it.
        results: task → result, written when the run ends or is scored again.
    """

    run_id: str
    status: Status
    created: str
    finished: str = ""
    evalsuite: str
    command: tuple[str, ...] = ()
    checkpoint: CheckpointPart
    engine: dict[str, Any]
    seed: int
    limit: int | None
    tasks: tuple[TaskPart, ...]
    signature: str
    environment: dict[str, str] = {}
    results: dict[str, TaskResult] = {}
    seconds: dict[str, float] = {}
    counts: dict[str, int] = {}
    warnings: tuple[str, ...] = ()
    schema: int = SCHEMA


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """What a score depends on besides the weights; two scores are comparable when it is equal."""

    task: str
    version: int
    subset: str
    variant: str
    num_fewshot: int
    chat_template: str
    data: str
    samples: str
    seed: int
    sampling: str = ""

    def __str__(self) -> str:
        """One line in sacrebleu's manner: ``task:cmmlu|v:1|variant:official|…``."""
        parts = [
            f"task:{self.task}" + (f"/{self.subset}" if self.subset else ""),
            f"v:{self.version}",
            f"variant:{self.variant}",
            f"shots:{self.num_fewshot}",
            f"chat:{self.chat_template}",
            f"data:{self.data[:12]}",
            f"samples:{self.samples[:12]}",
            f"seed:{self.seed}",
            *([f"sampling:{self.sampling}"] if self.sampling else []),
        ]
        return "|".join(parts)


def digest(value: Any) -> str:
    """sha256 of a JSON value, with sorted keys; the one content key of the project."""
    return hashlib.sha256(lines.encode(value, sort=True)).hexdigest()
