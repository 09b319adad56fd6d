"""What a task plugin is: samples, a prompt, a score.

A plugin is one file that binds ``TASK`` to an instance of a :class:`Task` subclass::

    class Capitals(Task):
        meta = TaskMeta(name="capitals", ...)
        variants = (Variant("zh"),)
        metrics = (Metric("accuracy"),)

        def samples(self, data): ...
        def request(self, sample, shots, variant): ...
        def score(self, sample, response): ...

    TASK = Capitals()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from evalsuite.data import DataFolder
from evalsuite.errors import UnknownName
from evalsuite.metrics.metric import Metric
from evalsuite.request import Request, Response


class DataSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the real data lives.

    Attributes:
        hub: data-set id on the Hugging Face hub, for ``evalsuite fetch``; empty if none.
        revision: the revision that is fetched, a commit where one is known; what it resolved to is
            recorded beside the files. Empty where there is no hub.
        files: glob patterns of the files wanted from the hub.
        sha256: file → checksum of the published files, in the official layout; may be partial.
        layout: the official layout, in words, for messages and ``tasks show``.
        url: home page.
    """

    layout: str
    url: str
    hub: str = ""
    revision: str = ""
    files: tuple[str, ...] = ()
    sha256: dict[str, str] = {}


class TaskMeta(msgspec.Struct, frozen=True, kw_only=True):
    """The contract of a task, complete or refused.

    Attributes:
        version: raised whenever a prompt, the data reading or a score changes.
        main_metric: the metric that tables, comparisons and gates use by default.
        sample_data: folder of the small set shipped with the plugin, relative to its file.
    """

    name: str
    title: str
    description: str
    languages: tuple[str, ...]
    domain: str
    licence: str
    citation: str
    source: DataSource
    main_metric: str
    version: int
    sample_data: str


class Variant(msgspec.Struct, frozen=True):
    """One named way to ask.

    Attributes:
        num_fewshot: how many solved examples go first, unless the user says otherwise.
        main_metric: where this way of asking has a main metric of its own; else the task's.
    """

    name: str
    description: str = ""
    num_fewshot: int = 0
    main_metric: str = ""


class Sample(msgspec.Struct, frozen=True):
    """One question.

    Attributes:
        id: stable and unique within the task, such as ``agronomy/17``.
        fields: what the prompt is made of; JSON values.
        target: the reference answer; JSON value.
        tags: what scores are broken down by, such as ``{"subject": "agronomy"}``.
        cluster: samples that share a passage share a cluster; empty means on its own.
    """

    id: str
    fields: dict[str, Any]
    target: Any
    tags: dict[str, str] = {}
    cluster: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """The score of one answer.

    Attributes:
        note: what more there is to say of the answer, in one line, such as how its program failed.
        scores: statistic → a number (a mean is taken of it) or its sufficient statistics, a list.
        answer: what was understood to be the model's answer; None when none was found.
    """

    scores: dict[str, float | list[float]]
    answer: str | None = None
    note: str = ""


class Task(ABC):
    """A task plugin. Stateless: everything it needs comes in as arguments."""

    meta: ClassVar[TaskMeta]
    variants: ClassVar[tuple[Variant, ...]]
    """The first one is the default."""
    folder: Path
    """Where the plugin's file is, with its sample data beside it; set when it is loaded."""
    source_sha256: str = ""
    """Checksum of the plugin's file: another scorer under the same name is another run."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics, the main one among them. A plain class attribute will do."""

    def metrics_of_several(self, answers: int) -> tuple[Metric, ...]:
        """Further metrics where each question gets this many answers; none by default."""
        return ()

    @abstractmethod
    def samples(self, data: DataFolder) -> Iterator[Sample]:
        """The questions, in the data's own order."""

    def examples(self, data: DataFolder) -> Iterator[Sample]:
        """The pool that few-shot examples are taken from, in order; none by default."""
        return iter(())

    def example_group(self, sample: Sample) -> str:
        """Samples only get examples of the same group, e.g. of the same subject."""
        return ""

    @abstractmethod
    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        """The question as an engine is asked it, after ``shots`` solved examples."""

    @abstractmethod
    def score(self, sample: Sample, response: Response) -> Outcome:
        """Score one answer. Pure; model output is untrusted text."""

    @abstractmethod
    def gold(self, sample: Sample) -> Response:
        """A perfect answer: it must reach the best score (checked without a model)."""

    def variant(self, name: str | None = None) -> Variant:
        """The variant of that name, or the default; raises :class:`UnknownName`."""
        if name is None:
            return self.variants[0]
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = [v.name for v in self.variants]
        raise UnknownName(
            "variant",
            name,
            known,
            where=f"task {self.meta.name}",
            hint=f"its variants: {', '.join(known)}",
        )

    def metric(self, name: str) -> Metric:
        """The metric of that name; raises :class:`UnknownName`."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise UnknownName("metric", name, [m.name for m in self.metrics], where=self.meta.name)
