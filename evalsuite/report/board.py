"""What a leaderboard page shows, before it is HTML."""

from __future__ import annotations

import msgspec

from evalsuite.metrics.metric import Metric
from evalsuite.record import Interval
from evalsuite.stats.paired import Difference


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One task, one protocol, one metric: what stands in a column may be compared.

    Attributes:
        key: unique on the page, fit for a URL.
        task: its name; ``metric`` None where no run has it.
        protocol: the variant and number of examples, for people.
        total: samples in the data.
    """

    key: str
    task: str
    title: str
    metric: Metric | None
    protocol: str = ""
    total: int = 0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint with one chat template.

    Attributes:
        name: unique on the page.
        stage: training stage and step, for people.
    """

    name: str
    stage: str
    template: str
    is_baseline: bool


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint's score on a task, or why there is none.

    Attributes:
        interval: None where there is no score; then ``reason`` is a key of
            :mod:`evalsuite.report.words` and ``detail`` goes into it.
        by_tag: tag → value → estimate.
        difference: to the baseline.
    """

    interval: Interval | None = None
    reason: str = ""
    detail: str = ""
    run_id: str = ""
    samples: int = 0
    errors: dict[str, int] = {}
    truncated: int = 0
    by_tag: dict[str, dict[str, Interval]] = {}
    difference: Difference | None = None


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint's answer to one sample.

    Attributes:
        state: ``good``, ``mid`` or ``bad`` by score, or ``error``.
        score: as it is shown.
        note: the error, or what the engine knows where it wrote no text.
    """

    row: int
    state: str
    score: str = ""
    text: str = ""
    answer: str | None = None
    note: str = ""
    truncated: bool = False


class ShownSample(msgspec.Struct, frozen=True, kw_only=True):
    """One sample side by side; ``kinds`` ⊆ {differ, errors, truncated}."""

    id: str
    prompt: str
    target: str
    tags: dict[str, str]
    kinds: tuple[str, ...]
    outputs: tuple[Output, ...]


class SampleSet(msgspec.Struct, frozen=True, kw_only=True):
    """The embedded samples of a column.

    Attributes:
        counts: kind (and ``all``) → how many samples the runs hold, embedded or not.
    """

    counts: dict[str, int]
    samples: tuple[ShownSample, ...]


class RunEntry(msgspec.Struct, frozen=True, kw_only=True):
    """How a run was made, and how to make it again."""

    run_id: str
    name: str
    status: str
    finished: str
    source: str
    fingerprint: str
    template: str
    engine: str
    evalsuite: str
    command: str
    signatures: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: str = ""
    tokens: str = ""
    memory: str = ""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that `evalsuite bench` measured, of a checkpoint that has scores.

    Attributes:
        name: the checkpoint, and what tells it from other configurations of it.
        workload: what its speed was measured on, for people.
        speed: tokens a second.
        memory: peak in bytes, of the GPU where there is one.
        weights: bytes; None where unknown.
        group: configurations of one group ran the same workload on the same hardware.
    """

    name: str
    bench_id: str
    workload: str
    speed: Interval
    memory: float
    weights: float | None
    hardware: str
    group: int


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A measured configuration and its score in one column.

    Attributes:
        measured: index into the page's measured configurations.
        front: no other of its group is at least as good, fast and small, and better in one.
    """

    measured: int
    score: Interval
    front: bool = False


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """A whole page. ``cells`` is rows × columns; ``samples`` and ``points`` go with the columns."""

    title: str
    language: str
    newest: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell, ...], ...]
    samples: tuple[SampleSet, ...]
    runs: tuple[RunEntry, ...]
    sort: str
    measured: tuple[Measured, ...] = ()
    points: tuple[tuple[Point, ...], ...] = ()
