"""Checking a task without a model: what must hold of every plugin before its scores mean anything."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from evalsuite import lines
from evalsuite.code import CodeTask
from evalsuite.data import DataFolder
from evalsuite.errors import EvalsuiteError, UnknownName
from evalsuite.golden import Golden, GoldenCase, GoldenPrompt, pinned, read_golden
from evalsuite.golden import golden_prompts as golden_prompts
from evalsuite.golden import update_golden as update_golden
from evalsuite.metrics.formulas import formula
from evalsuite.metrics.metric import Metric
from evalsuite.plan import build_requests, open_data
from evalsuite.record import Record
from evalsuite.request import Choose, Chosen, Generate, Generated, Request, Response
from evalsuite.scoring import Scorer
from evalsuite.stats.sufficient import statistics
from evalsuite.task import Outcome, Sample, Task

SLOW = 5.0
"""Seconds after which scoring one hostile answer counts as hanging."""

HOSTILE = (
    "\x00",
    "\ud800 \udfff",
    "\x1b]0;title\x07\x1b[2J",
    "\u202e\u2066 A \u2069",
    "👩‍👩‍👧‍👦" * 2_000,
    "e" + "\u0301" * 20_000,
    " " * 100_000 + "A",
    "\n" * 50_000,
    "(" * 20_000,
    "{" * 20_000 + "}" * 20_000,
    "\\frac{" * 5_000,
    "\\boxed{" * 5_000,
    "答案是" * 20_000,
    "the answer is " * 10_000,
    "A" * 100_000,
    "9" * 10_000,
    "1e999999999",
    "9**9**9**9",
    "1/0",
    "-" * 20_000 + "1",
    "nan",
    "inf",
    "#### " * 10_000,
    "```python\nimport os\n" * 1_000,
    "{0.__class__} %s %n ${HOME}",
    "<think>" * 5_000,
)
"""Answers that no scorer may crash or hang on, or give a score that is not a number."""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with a task.

    Attributes:
        check: which check found it: metadata, data, samples, shots, gold, empty, prompts, cases or
            hostile.
        where: the sample, variant or field.
    """

    check: str
    message: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.check}: {self.message}" + (f" ({self.where})" if self.where else "")


def check(task: Task) -> list[Problem]:
    """Validate a loaded task on its own sample data and golden file."""
    try:
        return validate(task, open_data(task, None), read_golden(task))
    except EvalsuiteError as fault:
        return [Problem("data", fault.one_line())]


def validate(task: Task, data: DataFolder, golden: dict[str, Any] | None) -> list[Problem]:
    """Everything that is wrong with a task; empty when it is sound.

    Args:
        data: the data that the golden file was written for, i.e. the task's sample set.
        golden: the parsed golden file; None where there is none, which is a problem in itself.
    """
    problems = list(_metadata(task))
    try:
        samples, examples = list(task.samples(data)), list(task.examples(data))
    except Exception as fault:
        return [*problems, Problem("data", _reason(fault), str(data.path))]
    if not samples:
        return [*problems, Problem("data", "no samples", str(data.path))]
    problems += _samples(task, samples)
    problems += _leaks(samples, examples)
    requests: list[Request] = []
    for variant in task.variants:
        try:
            requests += build_requests(task, data, samples, variant, variant.num_fewshot)
        except Exception as fault:
            problems.append(Problem("prompts", _reason(fault), variant.name))
    # What a plugin ships is trusted as its code is; its gold answers need no isolation.
    scorer: Scorer[None] = Scorer("none")
    with closing(scorer):
        problems += _extremes(task, samples, requests, scorer)
        problems += _against_golden(task, data, samples, golden, scorer)
    problems += _hostile(task, samples[0], requests)
    return problems


def _metadata(task: Task) -> Iterator[Problem]:
    meta = task.meta
    texts = ("name", "title", "description", "domain", "licence", "citation", "sample_data")
    for field in texts:
        if not getattr(meta, field).strip():
            yield Problem("metadata", "empty", f"meta.{field}")
    for field in ("layout", "url"):
        if not getattr(meta.source, field).strip():
            yield Problem("metadata", "empty", f"meta.source.{field}")
    if not meta.languages:
        yield Problem("metadata", "no language", "meta.languages")
    if meta.version < 1:
        yield Problem("metadata", "versions start at 1", "meta.version")
    if meta.source.hub and not meta.source.files:
        yield Problem("metadata", "which files to fetch?", "meta.source.files")
    if meta.source.hub and not meta.source.revision:
        yield Problem("metadata", "which revision to fetch?", "meta.source.revision")
    if Path(meta.sample_data).is_absolute() or ".." in Path(meta.sample_data).parts:
        yield Problem("metadata", "must lie beside the plugin", "meta.sample_data")
    if len({v.name for v in task.variants}) < len(task.variants):
        yield Problem("metadata", "two variants share a name", "variants")
    names = {metric.name for metric in task.metrics}
    for metric in task.metrics:
        try:
            formula(metric.formula)
        except UnknownName as fault:
            yield Problem("metadata", fault.one_line(), f"metric {metric.name}")
    for variant in task.variants:
        if variant.main_metric and variant.main_metric not in names:
            yield Problem("metadata", f"no metric {variant.main_metric!r}", variant.name)


def _samples(task: Task, samples: Sequence[Sample]) -> Iterator[Problem]:
    seen: set[str] = set()
    macro = {metric.macro_over for metric in task.metrics if metric.macro_over}
    for sample in samples:
        if not sample.id or sample.id in seen:
            yield Problem("samples", "an id must be there and be unique", sample.id)
        seen.add(sample.id)
        if missing := macro - {tag for tag, value in sample.tags.items() if value}:
            yield Problem("samples", f"no tag {', '.join(sorted(missing))}", sample.id)
        try:
            lines.encode(sample)
        except Exception as fault:
            yield Problem("samples", f"not JSON values: {_reason(fault)}", sample.id)


def _leaks(samples: Sequence[Sample], examples: Sequence[Sample]) -> Iterator[Problem]:
    ids = {sample.id for sample in samples}
    asked = {lines.encode(sample.fields): sample.id for sample in samples}
    for example in examples:
        if example.id in ids:
            yield Problem("shots", "an example has the id of a question", example.id)
        elif twin := asked.get(lines.encode(example.fields)):
            yield Problem(
                "shots", f"an example is the question {twin}, with its answer", example.id
            )


def _extremes(
    task: Task, samples: Sequence[Sample], requests: Sequence[Request], scorer: Scorer[None]
) -> Iterator[Problem]:
    """Gold answers reach the best score, and empty answers score nothing."""
    golds: list[Record] = []
    for sample in samples:
        try:
            golds.append(_record(sample, scorer.outcome(task, sample, task.gold(sample))))
        except Exception as fault:
            yield Problem("gold", _reason(fault), sample.id)
            return
    empties: dict[str, list[Record]] = {}
    for kind, response in _empty_answers(requests).items():
        for sample in samples:
            try:
                outcome = scorer.outcome(task, sample, response)
            except Exception as fault:
                yield Problem("empty", _reason(fault), sample.id)
                return
            if outcome.answer:
                message = f"an empty answer was read as {outcome.answer!r}"
                yield Problem("empty", message, sample.id)
            empties.setdefault(kind, []).append(_record(sample, outcome))
    mains = dict.fromkeys(v.main_metric or task.meta.main_metric for v in task.variants)
    for metric in task.metrics:
        if metric.name not in mains:
            continue
        try:
            yield from _best(metric, golds)
            for records in empties.values():
                yield from _nothing(metric, records, golds)
        except EvalsuiteError as fault:
            yield Problem("gold", fault.one_line(), metric.name)


def _best(metric: Metric, golds: list[Record]) -> Iterator[Problem]:
    if not metric.higher_is_better and metric.unit == "points":
        return  # a perplexity has no best value; _nothing still compares it
    best = (100.0 if metric.unit == "points" else 1.0) if metric.higher_is_better else 0.0
    table = statistics(metric, golds)
    if math.isclose(table.score(), best, rel_tol=1e-9, abs_tol=1e-9):
        return
    single = zip(table.ids, table.item_scores(), strict=True)
    worse = [sample for sample, score in single if not math.isclose(score, best, rel_tol=1e-9)]
    message = f"gold answers score {table.score():g} where the best is {best:g}"
    yield Problem("gold", message, f"{metric.name}; {', '.join(worse[:3])}")


def _nothing(metric: Metric, records: list[Record], golds: list[Record]) -> Iterator[Problem]:
    score, gold = statistics(metric, records).score(), statistics(metric, golds).score()
    if metric.higher_is_better and not math.isclose(score, 0.0, abs_tol=1e-9):
        yield Problem("empty", f"empty answers score {score:g} and not 0", metric.name)
    if not metric.higher_is_better and not score > gold:
        yield Problem("empty", f"empty answers score {score:g}, gold {gold:g}", metric.name)


def _empty_answers(requests: Sequence[Request]) -> dict[str, Response]:
    empty: dict[str, Response] = {}
    if any(isinstance(request, Generate) for request in requests):
        empty["generate"] = Generated(text="")
    if any(isinstance(request, Choose) for request in requests):
        empty["choose"] = Chosen(picked=None)
    return empty


def _against_golden(
    task: Task,
    data: DataFolder,
    samples: Sequence[Sample],
    golden: dict[str, Any] | None,
    scorer: Scorer[None],
) -> Iterator[Problem]:
    if golden is None:
        hint = "`evalsuite tasks check NAME --update` writes its prompts, and you its cases"
        yield Problem("prompts", f"no golden file; {hint}", f"golden/{task.meta.name}.json")
        return
    try:
        expected = msgspec.convert(golden, Golden)
    except msgspec.ValidationError as fault:
        yield Problem("prompts", f"malformed golden file: {fault}")
        return
    by_id = {sample.id: sample for sample in samples}
    for variant in task.variants:
        if not any(key.rpartition("/")[0] == variant.name for key in expected.prompts):
            yield Problem("prompts", "no golden prompt of this variant", variant.name)
    for key, prompt in expected.prompts.items():
        yield from _prompt(task, data, by_id, key, prompt)
    if not expected.cases:
        yield Problem("cases", "no golden case")
    for case in expected.cases:
        yield from _case(task, by_id, case, scorer)


def _prompt(
    task: Task, data: DataFolder, by_id: dict[str, Sample], key: str, golden: GoldenPrompt
) -> Iterator[Problem]:
    name, _, shots = key.rpartition("/")
    count = shots.removesuffix("-shot")
    if golden.sample not in by_id or not count.isdecimal() or count == shots:
        reason = "no such sample, or not of the form VARIANT/K-shot"
        yield Problem("prompts", reason, f"{key}, {golden.sample}")
        return
    sample = by_id[golden.sample]
    try:
        (request,) = build_requests(task, data, [sample], task.variant(name), int(count))
    except Exception as fault:
        yield Problem("prompts", _reason(fault), key)
        return
    now = pinned(sample, request)
    for field in ("prompt", "system", "choices", "continuation"):
        if getattr(now, field) != getattr(golden, field):
            difference = _difference(getattr(golden, field), getattr(now, field))
            yield Problem("prompts", f"the {field} has changed: {difference}", key)


def _case(
    task: Task, by_id: dict[str, Sample], case: GoldenCase, scorer: Scorer[None]
) -> Iterator[Problem]:
    if case.sample not in by_id:
        yield Problem("cases", "no such sample", case.sample)
        return
    try:
        response = (
            Generated(text=case.output)
            if isinstance(case.output, str)
            else msgspec.convert(case.output, Response)
        )
        scores = scorer.outcome(task, by_id[case.sample], response, case.variant).scores
    except Exception as fault:
        yield Problem("cases", _reason(fault), f"{case.sample}, {str(case.output)[:40]!r}")
        return
    for name, expected in case.scores.items():
        if not _equal(scores.get(name), expected):
            message = f"{str(case.output)[:40]!r} scores {name} {scores.get(name)}, not {expected}"
            yield Problem("cases", message, case.sample)


def _hostile(task: Task, sample: Sample, requests: Sequence[Request]) -> Iterator[Problem]:
    if not any(isinstance(request, Generate) for request in requests):
        return
    for text in HOSTILE:
        started = time.perf_counter()
        try:
            if isinstance(task, CodeTask):  # it is read, not run: its limits are the sandbox's
                for variant in task.variants:
                    task.program(sample, Generated(text=text), variant.name)
                outcome = Outcome({})
            else:
                outcome = task.score(sample, Generated(text=text))
        except Exception as fault:
            yield Problem("hostile", _reason(fault), f"{text[:20]!r}, {len(text)} characters")
            continue
        if (seconds := time.perf_counter() - started) > SLOW:
            message = f"scoring took {seconds:.1f} s"
            yield Problem("hostile", message, f"{text[:20]!r}, {len(text)} characters")
        values = [v if isinstance(v, list) else [v] for v in outcome.scores.values()]
        if not all(math.isfinite(number) for value in values for number in value):
            yield Problem("hostile", "a score is not a number", repr(text[:20]))


def _record(sample: Sample, outcome: Outcome) -> Record:
    return Record(task="", sample=sample.id, tags=sample.tags, scores=outcome.scores)


def _equal(found: float | list[float] | None, expected: float | list[float]) -> bool:
    if found is None or isinstance(found, list) != isinstance(expected, list):
        return False
    left = found if isinstance(found, list) else [found]
    right = expected if isinstance(expected, list) else [expected]
    return len(left) == len(right) and all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) for a, b in zip(left, right, strict=True)
    )


def _difference(old: Sequence[str], new: Sequence[str]) -> str:
    """Where two texts (or two lists of choices) part, with a little around it."""
    shared = zip(old, new, strict=False)
    place = next((i for i, (a, b) in enumerate(shared) if a != b), min(len(old), len(new)))
    start = max(0, place - 10)
    return f"at {place}, {old[start : place + 20]!r} became {new[start : place + 20]!r}"


def _reason(fault: BaseException) -> str:
    return fault.one_line() if isinstance(fault, EvalsuiteError) else repr(fault)[:300]
