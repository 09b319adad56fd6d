"""Two runs, question by question: what got better, what got worse, how sure we are.

Runs are compared only where they answered the same questions in the same way; anything else is
refused with the field that differs. What may differ (the chat template, the number of samples) is
reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from evalsuite.errors import RunsIncomparable, UnknownName
from evalsuite.metrics.metric import Metric
from evalsuite.record import CheckpointPart, Record, RunManifest, Status, TaskPart
from evalsuite.stats.interval import LEVEL
from evalsuite.stats.paired import Difference, changes, difference, pair, paired_difference
from evalsuite.store import Run
from evalsuite.summary import groups, is_truncated

_SAME = ("version", "subset", "variant", "num_fewshot", "metrics")
"""Fields of a :class:`TaskPart` that must be equal for two scores to mean the same."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two runs."""

    run_id: str
    path: str
    status: Status
    checkpoint: CheckpointPart


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """How complete one run's answers to a task are.

    Attributes:
        asked: samples the run was to ask.
        scored: samples with a score.
        errors: error code → samples without a score.
        truncated: answers cut off at the token limit.
    """

    asked: int
    scored: int
    errors: dict[str, int]
    truncated: int


class TaskComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One task in both runs.

    Attributes:
        differences: metric → difference, candidate − baseline.
        by_tag: tag → value → difference in the main metric.
        expected: samples that both runs were to answer.
        regressed: ids of samples that got worse in the main metric, the greatest loss first.
        improved: likewise for the better, the greatest gain first.
    """

    task: str
    title: str
    main_metric: str
    metrics: tuple[Metric, ...]
    baseline: Answers
    candidate: Answers
    expected: int
    differences: dict[str, Difference]
    by_tag: dict[str, dict[str, Difference]]
    regressed: tuple[str, ...]
    improved: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def main(self) -> Difference:
        """The difference in the main metric."""
        return self.differences[self.main_metric]

    @property
    def metric(self) -> Metric:
        """The main metric."""
        return next(m for m in self.metrics if m.name == self.main_metric)

    @property
    def coverage(self) -> float:
        """Share of the expected samples that both runs have a score for."""
        return self.main.samples / self.expected if self.expected else 0.0


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate against a baseline, task by task in the baseline's order."""

    baseline: Side
    candidate: Side
    tasks: tuple[TaskComparison, ...]
    warnings: tuple[str, ...] = ()


def compare(
    baseline: Run,
    candidate: Run,
    *,
    tasks: Sequence[str] = (),
    level: float = LEVEL,
) -> Comparison:
    """Compare two runs on the samples that both have a score for.

    Args:
        tasks: only these; all tasks of both runs if empty.

    Raises:
        UnknownName: neither run has a task of that name.
        RunsIncomparable: they did not answer the same questions in the same way.
        RunDamaged: a record lacks the statistic of a metric.
    """
    pairs = _matched(baseline.manifest, candidate.manifest, tasks)
    names = {one.name for one, _ in pairs}
    ours, theirs = _by_task(baseline, names), _by_task(candidate, names)
    failed = "failed" in (baseline.manifest.status, candidate.manifest.status)
    return Comparison(
        baseline=_side(baseline),
        candidate=_side(candidate),
        tasks=tuple(
            _compare_task(one, two, ours[one.name], theirs[two.name], level, failed=failed)
            for one, two in pairs
        ),
        warnings=tuple(_run_warnings(baseline.manifest, candidate.manifest)),
    )


def require_comparable(baseline: TaskPart, candidate: TaskPart) -> None:
    """Raise :class:`RunsIncomparable` at the first field in which two protocols differ."""
    for field in _SAME:
        one, two = getattr(baseline, field), getattr(candidate, field)
        if one != two:
            raise _incomparable(baseline.name, field.replace("_", " "), one, two)
    one_data, two_data = baseline.data.sha256, candidate.data.sha256
    for file in sorted(one_data.keys() | two_data.keys()):
        one, two = one_data.get(file, "absent"), two_data.get(file, "absent")
        if one != two:
            raise _incomparable(baseline.name, f"data checksum of {file}", one[:12], two[:12])


def _incomparable(task: str, field: str, one: Any, two: Any) -> RunsIncomparable:
    if field == "metrics":
        only = set(one) ^ set(two)
        one, two = (", ".join(m.name for m in side if m in only) or "none" for side in (one, two))
    return RunsIncomparable(
        f"{field} differs: {one!r} in the baseline, {two!r} in the candidate",
        where=f"task {task}",
        hint="run both with the same task version, options and data",
    )


def _matched(
    baseline: RunManifest, candidate: RunManifest, tasks: Sequence[str]
) -> list[tuple[TaskPart, TaskPart]]:
    ours = {part.name: part for part in baseline.tasks}
    theirs = {part.name: part for part in candidate.tasks}
    for name in tasks:
        if name not in ours and name not in theirs:
            raise UnknownName("task", name, [*ours, *theirs], where="in either run")
    wanted = list(dict.fromkeys(tasks)) or list(ours | theirs)
    missing = {
        "baseline": [name for name in wanted if name not in ours],
        "candidate": [name for name in wanted if name not in theirs],
    }
    if any(missing.values()):
        lacks = "; ".join(f"the {s} lacks {', '.join(n)}" for s, n in missing.items() if n)
        both = ",".join(name for name in ours if name in theirs)
        hint = f"compare what both have with --tasks {both}" if both else "run the same tasks"
        raise RunsIncomparable(f"tasks differ: {lacks}", hint=hint)
    if not wanted:
        raise RunsIncomparable("tasks differ: neither run has any", hint="run some tasks first")
    for name in wanted:
        require_comparable(ours[name], theirs[name])
    return [(ours[name], theirs[name]) for name in wanted]


def _side(run: Run) -> Side:
    manifest = run.manifest
    return Side(
        run_id=manifest.run_id,
        path=str(run.path),
        status=manifest.status,
        checkpoint=manifest.checkpoint,
    )


def _by_task(run: Run, names: Iterable[str]) -> dict[str, list[Record]]:
    """The records by task, without the texts, which nothing here reads."""
    found: dict[str, list[Record]] = {name: [] for name in names}
    for record in run.records():
        if record.task in found:
            found[record.task].append(lighter(record))
    return found


def lighter(record: Record) -> Record:
    """The record without prompt, target and all but the kind of its response, to save memory."""
    response = record.response if is_truncated(record) else None
    if response is not None:
        response = msgspec.structs.replace(response, text="", token_ids=())
    return msgspec.structs.replace(record, prompt="", prefix="", target=None, response=response)


def _compare_task(
    one: TaskPart,
    two: TaskPart,
    ours: list[Record],
    theirs: list[Record],
    level: float,
    *,
    failed: bool,
) -> TaskComparison:
    """``failed``: a run broke down, so that nothing in common is its fault and no mismatch."""
    scored = {r.sample for r in ours if r.error is None} & {
        r.sample for r in theirs if r.error is None
    }
    if not scored and not failed:
        raise RunsIncomparable(
            "no sample has a score in both runs",
            where=f"task {one.name}",
            hint="use the same --limit and --seed, and retry failed samples",
        )
    main = next(metric for metric in one.metrics if metric.name == one.main_metric)
    a, b = pair(main, ours, theirs)
    gains = changes(a, b)
    by_gain = np.argsort(gains, kind="stable")
    by_loss = np.argsort(-gains, kind="stable")
    baseline, candidate = _answers(one, ours), _answers(two, theirs)
    expected = _expected(one, two, ours, theirs)
    return TaskComparison(
        task=one.name,
        title=one.title,
        main_metric=main.name,
        metrics=one.metrics,
        baseline=baseline,
        candidate=candidate,
        expected=expected,
        differences={
            metric.name: difference(a, b, level)
            if metric is main
            else paired_difference(metric, ours, theirs, level)
            for metric in one.metrics
        },
        by_tag=_by_tag(main, ours, theirs, scored, level),
        regressed=tuple(a.ids[i] for i in by_gain if gains[i] < 0),
        improved=tuple(a.ids[i] for i in by_loss if gains[i] > 0),
        warnings=tuple(_task_warnings(one, two, baseline, candidate, len(scored), expected)),
    )


def _answers(part: TaskPart, records: list[Record]) -> Answers:
    errors: dict[str, int] = {}
    for record in records:
        if record.error is not None:
            errors[record.error.code] = errors.get(record.error.code, 0) + 1
    return Answers(
        asked=part.samples,
        scored=sum(record.error is None for record in records),
        errors=dict(sorted(errors.items())),
        truncated=sum(map(is_truncated, records)),
    )


def _expected(one: TaskPart, two: TaskPart, ours: list[Record], theirs: list[Record]) -> int:
    """How many samples both were to answer: those they share, and those never written down."""
    if one.sample_ids_sha256 == two.sample_ids_sha256:
        return one.samples
    shared = len({r.sample for r in ours} & {r.sample for r in theirs})
    return shared + max(one.samples - len(ours), 0) + max(two.samples - len(theirs), 0)


def _by_tag(
    metric: Metric, ours: list[Record], theirs: list[Record], scored: set[str], level: float
) -> dict[str, dict[str, Difference]]:
    partner = {record.sample: record for record in theirs}
    return {
        tag: {
            value: paired_difference(metric, members, [partner[r.sample] for r in members], level)
            for value, members in values.items()
        }
        for tag, values in groups(r for r in ours if r.sample in scored).items()
    }


def _run_warnings(baseline: RunManifest, candidate: RunManifest) -> Iterator[str]:
    for name, run in (("baseline", baseline), ("candidate", candidate)):
        if run.status != "complete":
            yield f"the {name} {run.run_id} is not complete: its status is {run.status}"
    one, two = baseline.checkpoint, candidate.checkpoint
    if one.chat_template != two.chat_template:
        yield (
            f"chat templates differ: {one.chat_template!r} in the baseline, "
            f"{two.chat_template!r} in the candidate; format and knowledge are confounded"
        )
    if one.choices != two.choices:
        yield (
            f"choices were made in another way: {one.choices or 'by log-likelihood'} in the baseline, "
            f"{two.choices or 'by log-likelihood'} in the candidate; format and knowledge are confounded"
        )
    if one.fingerprint == two.fingerprint and one.chat_template == two.chat_template:
        yield "both runs are of the same checkpoint"
    if baseline.seed != candidate.seed:
        yield f"seeds differ: {baseline.seed} in the baseline, {candidate.seed} in the candidate"


def _task_warnings(
    one: TaskPart, two: TaskPart, ours: Answers, theirs: Answers, common: int, expected: int
) -> Iterator[str]:
    if one.sample_ids_sha256 != two.sample_ids_sha256:
        yield (
            f"different samples: {one.samples:,} in the baseline, {two.samples:,} in the candidate;"
            f" compared on the {common:,} in common"
        )
    for name, answers in (("baseline", ours), ("candidate", theirs)):
        if answers.scored < answers.asked:
            codes = [f"{code} ×{count}" for code, count in answers.errors.items()]
            never = answers.asked - answers.scored - sum(answers.errors.values())
            codes += [f"not answered ×{never}"] if never > 0 else []
            yield (
                f"the {name} has no score for {answers.asked - answers.scored:,} of "
                f"{answers.asked:,} samples: {', '.join(codes)}"
            )
        if answers.truncated:
            yield (
                f"the {name} has {answers.truncated:,} of {answers.asked:,} answers cut off at the "
                "token limit"
            )
    if common < expected:
        yield f"coverage {common / expected:.1%}: {common:,} of {expected:,} samples are compared"
