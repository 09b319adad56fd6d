"""From the names on a command line to the exact requests of a run.

Nothing here needs a checkpoint: the same plan serves every model, so their answers pair up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, overload

import msgspec

from evalsuite.data import DataFolder
from evalsuite.decoding import Decoding
from evalsuite.errors import BadOption, BadTask, DataMissing, EvalsuiteError, UnknownName
from evalsuite.record import DataPart, TaskPart, digest, digest_all
from evalsuite.registry import load_task
from evalsuite.request import Generate, Request
from evalsuite.shelf import IN_MEMORY, Shelf
from evalsuite.task import DataSource, Sample, Task, Variant


class TaskChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One task as the user asked for it.

    Attributes:
        label: ``NAME`` or ``NAME/SUBSET``, where the subset is a tag value such as ``mgsm/zh``.
        variant: None for the task's first.
        num_fewshot: None for the variant's own number.
        data: a local folder or file in the official layout; None for the sample set.
    """

    label: str
    variant: str | None = None
    num_fewshot: int | None = None
    data: Path | None = None

    @property
    def name(self) -> str:
        """The plugin's name."""
        return self.label.partition("/")[0]

    @property
    def subset(self) -> str:
        """The tag value asked for, or empty."""
        return self.label.partition("/")[2]


Asker = Callable[[Sample], Request]
"""From a sample to its request, after its few-shot examples."""


class Requests(Sequence[Request]):
    """The request of each sample, made anew whenever it is read: many would not fit in memory."""

    def __init__(self, samples: Sequence[Sample], ask: Asker) -> None:
        self._samples = samples
        self._ask = ask

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> list[Request]: ...
    def __getitem__(self, index: int | slice) -> Request | list[Request]:
        if isinstance(index, slice):
            return [self._ask(sample) for sample in self._samples[index]]
        return self._ask(self._samples[index])


class PlannedTask(msgspec.Struct, frozen=True):
    """A task ready to run: its samples, the request of each, and what goes into ``run.json``.

    Attributes:
        requests_sha256: checksum of all requests, in order.
    """

    task: Task
    part: TaskPart
    samples: Sequence[Sample]
    requests: Sequence[Request]
    requests_sha256: str


def plan_task(
    choice: TaskChoice,
    *,
    limit: int | None = None,
    seed: int = 0,
    skip_bad_rows: bool = False,
    task_path: Sequence[Path] = (),
    sampling: Decoding | None = None,
) -> PlannedTask:
    """Load a task's data and build its requests.

    Args:
        sampling: settings that replace the task's own in every request that generates.

    Raises:
        UnknownName: no such task, subset or variant.
        DataMissing, BadRow: the data is not there or malformed.
        BadOption: more examples are asked for than there are.
        BadTask: two samples share an id.
    """
    task = load_task(choice.name, task_path)
    try:
        return _planned(
            task,
            choice,
            limit=limit,
            seed=seed,
            skip_bad_rows=skip_bad_rows,
            sampling=sampling or Decoding(),
        )
    except (EvalsuiteError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as fault:
        raise BadTask(
            f"the plugin raises {type(fault).__name__}: {fault}",
            where=f"task {choice.name}",
            hint=f"`evalsuite tasks check {choice.name}` tells more",
        ) from fault


def _planned(
    task: Task,
    choice: TaskChoice,
    *,
    limit: int | None,
    seed: int,
    skip_bad_rows: bool,
    sampling: Decoding,
) -> PlannedTask:
    variant = task.variant(choice.variant)
    shots = variant.num_fewshot if choice.num_fewshot is None else choice.num_fewshot
    data = open_data(task, choice.data, skip_bad_rows=skip_bad_rows)
    samples = read_samples(task, data, choice)
    chosen = stratified(samples, limit, seed=seed, label=choice.label)
    ask = asker(task, data, variant, shots, seed=seed, sampling=sampling)
    if (answers := sampling.samples or 1) > 1:
        _may_vary(ask(chosen[0]), choice)
        chosen = Shelf(_draws(chosen, answers))
    made = Shelf(map(ask, chosen)) if len(chosen) <= IN_MEMORY else Requests(chosen, ask)
    sha256 = digest_all(made)
    part = TaskPart(
        name=choice.label,
        title=task.meta.title,
        version=task.meta.version,
        subset=choice.subset,
        variant=variant.name,
        num_fewshot=shots,
        main_metric=variant.main_metric or task.meta.main_metric,
        metrics=(*task.metrics, *task.metrics_of_several(answers)),
        samples=len(chosen),
        total=len(samples) * answers,
        sample_ids_sha256=digest([s.id for s in chosen]),
        data=_data_part(task, data, choice.data),
        licence=task.meta.licence,
        citation=task.meta.citation,
        languages=task.meta.languages,
        domain=task.meta.domain,
        sampling=str(sampling),
    )
    return PlannedTask(task, part, chosen, made, sha256)


def _draws(samples: Sequence[Sample], answers: int) -> Iterator[Sample]:
    """Each question several times, as samples ``ID#1``, ``ID#2``, … of one cluster."""
    for sample in samples:
        for number in range(1, answers + 1):
            yield msgspec.structs.replace(
                sample, id=f"{sample.id}#{number}", cluster=sample.cluster or sample.id
            )


def _may_vary(request: Request, choice: TaskChoice) -> None:
    """Refuse to ask twice what has one answer."""
    if isinstance(request, Generate) and request.sampling.temperature > 0:
        return
    raise BadOption(
        "several samples of an answer that is always the same",
        where=f"--sampling, task {choice.label}",
        hint="give a temperature too, as in samples=20,temperature=0.8; leave out tasks that"
        " generate nothing",
    )


def open_data(task: Task, path: Path | None, *, skip_bad_rows: bool = False) -> DataFolder:
    """The user's data, or the sample set that ships with the task."""
    folder = task.folder / task.meta.sample_data if path is None else path
    return DataFolder(folder, layout=task.meta.source.layout, skip_bad_rows=skip_bad_rows)


def read_samples(task: Task, data: DataFolder, choice: TaskChoice) -> Sequence[Sample]:
    """All samples of the data, or of the subset asked for; at least one, with unique ids."""
    samples = Shelf(_sound(sample, choice) for sample in task.samples(data))
    if not samples:
        raise DataMissing(
            "no samples in the data", where=str(data.path), hint=f"expected {data.layout}"
        )
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise BadTask(f"two samples have the id {sample.id!r}", where=f"task {choice.name}")
        seen.add(sample.id)
    if "/" not in choice.label:
        return samples
    values = sorted({value for sample in samples for value in sample.tags.values()})
    if choice.subset not in values:
        raise UnknownName("subset", choice.subset, values, where=f"task {choice.name}")
    return Shelf(sample for sample in samples if choice.subset in sample.tags.values())


def _sound(sample: Sample, choice: TaskChoice) -> Sample:
    """The sample, if the journal can hold it; better refused now than after the last answer."""
    try:
        msgspec.convert(msgspec.to_builtins(sample), Sample)
    except (TypeError, ValueError, RecursionError) as fault:
        raise BadTask(
            f"the sample {sample.id!r} is not made of JSON values: {fault}",
            where=f"task {choice.name}",
            hint="ids and tags are texts; see evalsuite/task.py",
        ) from None
    return sample


def stratified(
    samples: Sequence[Sample], limit: int | None, *, seed: int, label: str
) -> Sequence[Sample]:
    """A seeded subset of ``limit`` samples that keeps the proportions of all tags.

    Systematic sampling with a random start: samples are lined up by their tags, in seeded order
    within equal tags, and every (n / limit)-th is taken. Each sample is as likely as any other, and
    each combination of tags gets its share, rounded up or down. The subset depends on the ids, the
    seed and the label only, not on the order of the data; it comes back in the data's order.
    """
    if limit is None or limit >= len(samples):
        return samples
    if limit < 1:
        raise BadOption(f"a limit of {limit}", where="--limit", hint="give 1 or more")

    def lot(text: str) -> bytes:
        return hashlib.sha256(f"{seed}|{label}|{text}".encode("utf-8", "surrogatepass")).digest()

    keys = [(sorted(s.tags.items()), lot(s.id)) for s in samples]
    lined_up = sorted(range(len(samples)), key=keys.__getitem__)
    start = int.from_bytes(lot("start")[:7], "big") / 2**56
    wanted = {lined_up[int((start + n) * len(samples) / limit)] for n in range(limit)}
    return Shelf(samples[at] for at in sorted(wanted))


def build_requests(
    task: Task,
    data: DataFolder,
    samples: Sequence[Sample],
    variant: Variant,
    num_fewshot: int,
    *,
    seed: int = 0,
    sampling: Decoding | None = None,
) -> list[Request]:
    """The request of each sample, after its few-shot examples."""
    return list(map(asker(task, data, variant, num_fewshot, seed=seed, sampling=sampling), samples))


def asker(
    task: Task,
    data: DataFolder,
    variant: Variant,
    num_fewshot: int,
    *,
    seed: int = 0,
    sampling: Decoding | None = None,
) -> Asker:
    """What makes a sample's request; the pool of examples is read once."""
    decoding = sampling or Decoding()
    pool = list(task.examples(data)) if num_fewshot else []
    by_group: dict[str, list[Sample]] = {}
    for example in pool:
        by_group.setdefault(task.example_group(example), []).append(example)

    def ask(sample: Sample) -> Request:
        shots = _shots(task, by_group, sample, num_fewshot)
        request = decoding.apply(task.request(sample, shots, variant.name))
        return _seeded(request, seed, sample.id)

    return ask


def _shots(
    task: Task, by_group: dict[str, list[Sample]], sample: Sample, count: int
) -> list[Sample]:
    """The first ``count`` examples of the sample's group, never the sample itself."""
    if count < 0:
        raise BadOption(f"{count} examples", where="--num-fewshot", hint="give 0 or more")
    group = task.example_group(sample)
    shots = [e for e in by_group.get(group, ()) if e.id != sample.id][:count]
    if len(shots) < count:
        where = f"task {task.meta.name}" + (f", {group}" if group else "")
        raise BadOption(
            f"{count} examples asked for and {len(shots)} there",
            where=where,
            hint=f"use --num-fewshot {task.meta.name}={len(shots)} or less",
        )
    return shots


def _seeded(request: Request, seed: int, sample: str) -> Request:
    """Give a sampled request a seed of its own, so that its answer depends on no other sample."""
    if not isinstance(request, Generate) or request.sampling.temperature == 0:
        return request
    lot = hashlib.sha256(f"{seed}|{sample}".encode("utf-8", "surrogatepass")).digest()
    own = int.from_bytes(lot[:7], "big")
    return msgspec.structs.replace(
        request, sampling=msgspec.structs.replace(request.sampling, seed=own)
    )


def _data_part(task: Task, data: DataFolder, path: Path | None) -> DataPart:
    revision = ""
    note = data.root / "source.json"
    if path is not None and note.is_file():
        try:
            revision = str(msgspec.json.decode(note.read_bytes()).get("revision", ""))
        except (msgspec.DecodeError, AttributeError):
            revision = ""
    return DataPart(
        path="sample" if path is None else str(path.resolve()),
        sha256=dict(sorted(data.sha256.items())),
        bad_rows=tuple(data.bad_rows),
        published="unknown" if path is None else _published(task.meta.source, data),
        revision=revision,
    )


def _published(source: DataSource, data: DataFolder) -> Literal["yes", "differs", "unknown"]:
    if source.sha256.get("*") == data.checksum():
        return "yes"
    known = {name: source.sha256[name] for name in data.sha256 if name in source.sha256}
    if any(data.sha256[name] != checksum for name, checksum in known.items()):
        return "differs"
    return "yes" if known else "unknown"
