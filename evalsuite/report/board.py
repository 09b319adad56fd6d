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


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """A whole page. ``cells`` is rows × columns; ``samples`` goes with the columns."""

    title: str
    language: str
    newest: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell, ...], ...]
    samples: tuple[SampleSet, ...]
    runs: tuple[RunEntry, ...]
    sort: str
