"""What is written down: one :class:`Record` a sample, one :class:`RunManifest` a run.

``SCHEMA`` stands in the manifest and is raised when a field of either changes its meaning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
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
        note: what the scorer had to say beside the scores, such as how a program failed.
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
    note: str = ""
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
    """The checkpoint of a run. ``fingerprint`` hashes all that can change an answer.

    Attributes:
        choices: how multiple choice was answered, where it was not by log-likelihood: ``written``.
    """

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
    choices: str = ""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's answers took, over all its starts but those that were killed outright.

    Attributes:
        asked_tokens: tokens of all answered samples, each computed by itself: nothing shared or
            cached, the prompt once for all choices of one token and again for each longer one.
        prefill_tokens, decode_tokens: what went through the model, padding included; None where the
            engine cannot know.
        prefill_per_second, decode_per_second: these tokens by their phase's time.
        asked_per_second: tokens asked by the time of all phases but loading.
        peak_bytes: the most memory that the process held.
        device_peak_bytes: likewise of a GPU, as its allocator says.
    """

    asked_tokens: int = 0
    prefill_tokens: int | None = None
    decode_tokens: int | None = None
    prefill_per_second: float | None = None
    decode_per_second: float | None = None
    asked_per_second: float | None = None
    peak_bytes: int | None = None
    device_peak_bytes: int | None = None

    def after(self, earlier: Cost, seconds: dict[str, float]) -> Cost:
        """Together with earlier starts, which took ``seconds`` by phase with this one."""
        prefill = _sum(self.prefill_tokens, earlier.prefill_tokens)
        decode = _sum(self.decode_tokens, earlier.decode_tokens)
        asked = self.asked_tokens + earlier.asked_tokens
        answering = sum(taken for phase, taken in seconds.items() if phase not in ("start", "load"))
        return Cost(
            asked_tokens=asked,
            prefill_tokens=prefill,
            decode_tokens=decode,
            prefill_per_second=_rate(prefill, seconds.get("prefill")),
            decode_per_second=_rate(decode, seconds.get("decode")),
            asked_per_second=_rate(asked, answering),
            peak_bytes=_most(self.peak_bytes, earlier.peak_bytes),
            device_peak_bytes=_most(self.device_peak_bytes, earlier.device_peak_bytes),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)


def _most(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else max(one or 0, other or 0)


def _rate(tokens: int | None, seconds: float | None) -> float | None:
    return round(tokens / seconds, 1) if tokens and seconds else None


class RunManifest(msgspec.Struct, kw_only=True):
    """``run.json``: all that is needed to understand and repeat a run.

    Attributes:
        signature: what must be equal for two runs' scores to mean the same, except the checkpoint.
        engine: name, version, dtype and whatever else changes numbers.
        command: the arguments of ``evalsuite run``, to repeat or resume it.
        sandbox: how programs that the model wrote were isolated; empty where none were run.
        usage: requests, tokens and money of a server, over all starts.
        results: task → result, written when the run ends or is scored again.
        first_forward: seconds from when the latest start began (the process's own beginning, or the
            end of the run before it) until the engine was first asked: ``wall`` and ``cpu``.
        seconds: start (all before loading), load (what of it planning did not hide, see
            :class:`evalsuite.ledger.Ledger`), plan, prefill, decode (or answer, where the engine cannot
            tell the two apart) and score → wall time, over all starts but those that were killed outright.
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
    first_forward: dict[str, float] = {}
    counts: dict[str, int] = {}
    cost: Cost = Cost()
    sandbox: str = ""
    usage: dict[str, float] = {}
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
    choices: str = ""

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
            *([f"choices:{self.choices}"] if self.choices else []),
        ]
        return "|".join(parts)


def digest_all(values: Iterable[Any]) -> str:
    """:func:`digest` of the list of these values, of which only one is in memory at a time."""
    whole = hashlib.sha256(b"[")
    for number, value in enumerate(values):
        whole.update(b"," * (number > 0) + lines.encode(value, sort=True))
    whole.update(b"]")
    return whole.hexdigest()


def digest(value: Any) -> str:
    """sha256 of a JSON value, with sorted keys; the one content key of the project."""
    return hashlib.sha256(lines.encode(value, sort=True)).hexdigest()
