"""The runs of one training put in order: rungs, their seeds, and which run answers for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from evalsuite.errors import DataMissing, UnknownName
from evalsuite.record import CheckpointPart, RunManifest, TaskPart, digest
from evalsuite.store import MANIFEST, Run

ORDER = ("pt", "sft", "rm", "hfft", "cohft", "dpo", "rloo", "grpo", "ppo")
"""Stages as they follow each other; others come after them by name."""

_BEFORE = {"sft": "pt", "rm": "sft"}
"""The stage that a stage starts from where its card names no parent; else ``sft``."""

DECODINGS = ("greedy", "sampled")


class Replicate(msgspec.Struct, frozen=True, order=True):
    """One of several repetitions of a rung: the training's seed, and the sampling's."""

    seed: int = -1
    draw: int = -1

    @property
    def label(self) -> str:
        """For people; empty where there is nothing to tell apart."""
        parts = [f"seed {self.seed}"] if self.seed >= 0 else []
        return ", ".join(parts + ([f"draw {self.draw}"] if self.draw >= 0 else []))


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the training; its seeds are the same rung.

    Attributes:
        label: the name without what all rungs of the family begin with.
        parent: the name of the rung that it was trained from; empty for a first one.
        depth: how many rungs lie before it.
    """

    name: str
    label: str
    stage: str
    step: int | None
    parent: str
    depth: int
    seeds: tuple[int, ...] = ()


class Source(msgspec.Struct, frozen=True):
    """The run, and its part, that answers for a rung on a task."""

    run: Run
    part: TaskPart


class Cell(msgspec.Struct, frozen=True, order=True):
    """One rung's answers to one task under one way of decoding."""

    rung: str
    task: str
    decoding: str


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """The rungs in order of training, and the run behind each cell and replicate.

    Attributes:
        tasks: task → its part in any of the runs that are used.
        decodings: those that occur, greedy first.
        notes: what was left out, and why.
    """

    family: str
    rungs: tuple[Rung, ...]
    tasks: dict[str, TaskPart]
    decodings: tuple[str, ...]
    cells: dict[Cell, dict[Replicate, Source]]
    notes: tuple[str, ...]

    def rung(self, name: str) -> Rung:
        """The rung of that name; raises :class:`UnknownName`."""
        for rung in self.rungs:
            if rung.name == name:
                return rung
        raise UnknownName("checkpoint", name, [rung.name for rung in self.rungs], where="the runs")


def decoding_of(part: TaskPart) -> str:
    """``greedy`` or ``sampled``: by what ``--sampling`` said, else by the variant's name."""
    settings = {
        key: value for key, _, value in (s.partition("=") for s in part.sampling.split(","))
    }
    if "temperature" in settings:
        return "sampled" if float(settings["temperature"]) > 0 else "greedy"
    return "sampled" if "sampled" in part.variant.split("-") else "greedy"


def find_ladder(runs: Sequence[Run], *, family: str = "", tasks: Sequence[str] = ()) -> Ladder:
    """Order the finished runs of one family.

    Args:
        family: as on the cards; the family with most runs if empty.
        tasks: only these, in this order; all if empty.

    Raises:
        DataMissing: no finished run is left.
        UnknownName: no run is of that family, or has one of those tasks.
    """
    notes = [
        f"{run.manifest.run_id} is left out: its status is {run.manifest.status}"
        for run in runs
        if run.manifest.status != "complete"
    ]
    complete = [(run, _fault(run)) for run in runs if run.manifest.status == "complete"]
    notes += [
        f"{run.manifest.run_id} is left out, its {MANIFEST} was changed by hand: {fault}"
        for run, fault in complete
        if fault
    ]
    finished = [run for run, fault in complete if not fault]
    families = Counter(run.manifest.checkpoint.family for run in finished)
    if not finished:
        raise DataMissing("no finished run", hint="give --runs DIR with runs of several stages")
    if family and family not in families:
        raise UnknownName("family", family, families, where="the runs")
    chosen = family or max(families, key=lambda name: (families[name], name))
    notes += [
        f"the family {name or 'without a name'!r} is left out; name it in the definition"
        for name in sorted(families)
        if name != chosen
    ]
    mine = [run for run in finished if run.manifest.checkpoint.family == chosen]
    known = list(dict.fromkeys(part.name for run in mine for part in run.manifest.tasks))
    for task in tasks:
        if task not in known:
            raise UnknownName("task", task, known, where="the runs")
    cells = _cells(mine, list(tasks) or known, notes)
    rungs = _rungs([run.manifest.checkpoint for run in mine], notes)
    return Ladder(
        family=chosen,
        rungs=rungs,
        tasks={
            task: next(
                source.part
                for cell, sources in cells.items()
                if cell.task == task
                for source in sources.values()
            )
            for task in (tasks or known)
        },
        decodings=tuple(d for d in DECODINGS if any(cell.decoding == d for cell in cells)),
        cells=cells,
        notes=tuple(notes),
    )


def _fault(run: Run) -> str:
    """What no run that evalsuite wrote has; empty if there is nothing."""
    if not run.manifest.checkpoint.name:
        return "the checkpoint has no name"
    for part in run.manifest.tasks:
        if part.main_metric not in (metric.name for metric in part.metrics):
            return f"{part.name} has no metric {part.main_metric!r}"
        try:
            decoding_of(part)
        except ValueError:
            return f"no sampling settings: {part.sampling!r}"
    return ""


def _cells(
    runs: Iterable[Run], tasks: Sequence[str], notes: list[str]
) -> dict[Cell, dict[Replicate, Source]]:
    """Each cell's runs under the protocol that most rungs share, the newest of equals."""
    found: dict[tuple[str, str], dict[str, list[Source]]] = {}
    for run in runs:
        for part in run.manifest.tasks:
            if part.name in tasks:
                same = found.setdefault((part.name, decoding_of(part)), {})
                same.setdefault(_protocol(part), []).append(Source(run, part))
    cells: dict[Cell, dict[Replicate, Source]] = {}
    for (task, decoding), protocols in sorted(found.items()):
        shared = max(protocols, key=lambda key: (_names(protocols[key]), key))
        if len(protocols) > 1:
            others = sum(len(sources) for key, sources in protocols.items() if key != shared)
            notes.append(f"{task}, {decoding}: {others} runs under another protocol are left out")
        for source in sorted(protocols[shared], key=_preference):
            checkpoint = source.run.manifest.checkpoint
            place = cells.setdefault(Cell(checkpoint.name, task, decoding), {})
            replicate = _replicate(source.run.manifest, decoding)
            older = place.get(replicate)
            other = older and older.run.manifest.checkpoint.fingerprint != checkpoint.fingerprint
            if other and checkpoint.seed is None:
                notes.append(
                    f"{checkpoint.name}, {task}: several checkpoints of this name without a seed;"
                    " the newest run counts"
                )
            place[replicate] = source
    return {cell: _told_apart(cell, sources, cells) for cell, sources in cells.items()}


def _told_apart(
    cell: Cell, sources: dict[Replicate, Source], cells: dict[Cell, dict[Replicate, Source]]
) -> dict[Replicate, Source]:
    """Replicates without their draws where everything was drawn with one seed."""
    draws = {
        replicate.draw
        for other, each in cells.items()
        if other.decoding == cell.decoding
        for replicate in each
    }
    if len(draws) > 1:
        return sources
    return {Replicate(replicate.seed): source for replicate, source in sources.items()}


def _names(sources: Iterable[Source]) -> int:
    return len({source.run.manifest.checkpoint.name for source in sources})


def _preference(source: Source) -> tuple[int, str, str]:
    """The best one last: the run that asked most, then the newest."""
    manifest = source.run.manifest
    return source.part.samples, manifest.finished or manifest.created, manifest.run_id


def _protocol(part: TaskPart) -> str:
    """Equal for parts whose scores mean the same."""
    metrics = msgspec.to_builtins(part.metrics)
    data = sorted(part.data.sha256.items())
    # What is greedy by itself and what was told to be greedy is the same.
    sampling = [s for s in part.sampling.split(",") if s not in ("", "temperature=0")]
    asked = [part.version, part.subset, part.variant, part.num_fewshot, sampling]
    return digest([*asked, metrics, data])


def _replicate(manifest: RunManifest, decoding: str) -> Replicate:
    """A greedy answer has no use for the run's seed."""
    seed = manifest.checkpoint.seed
    draw = manifest.seed if decoding == "sampled" else -1
    return Replicate(-1 if seed is None else seed, draw)


def _rungs(checkpoints: Sequence[CheckpointPart], notes: list[str]) -> tuple[Rung, ...]:
    """Parents before their children, branches in the order of their stages."""
    of: dict[str, list[CheckpointPart]] = {}
    for checkpoint in checkpoints:
        of.setdefault(checkpoint.name, []).append(checkpoint)
    parents = {name: _parent(name, of) for name in of}
    for name in sorted(parents):
        above, seen = parents[name], {name}
        while above and above not in seen:
            seen.add(above)
            above = parents[above]
        if above:
            notes.append(f"{name}: its line of parents is a circle, so it counts as a first stage")
            parents[name] = ""
    shared = _shared_beginning(list(of))
    ordered: list[Rung] = []

    def climb(name: str, depth: int) -> None:
        seeds = {c.seed for c in of[name] if c.seed is not None}
        ordered.append(
            Rung(
                name=name,
                label=name[len(shared) :] or name,
                stage=of[name][-1].stage,
                step=of[name][-1].step,
                parent=parents[name],
                depth=depth,
                seeds=tuple(sorted(seeds)),
            )
        )
        for child in sorted((n for n in of if parents[n] == name), key=_by_stage(of)):
            climb(child, depth + 1)

    for root in sorted((name for name in of if not parents[name]), key=_by_stage(of)):
        climb(root, 0)
    return tuple(ordered)


def _parent(name: str, of: dict[str, list[CheckpointPart]]) -> str:
    """The parent on the card if it has runs; else the only rung of the stage before."""
    named = of[name][-1].parent
    if named in of and named != name:
        return named
    stage = of[name][-1].stage
    if stage == ORDER[0] or not stage:
        return ""
    before = [
        n for n, own in of.items() if own[-1].stage == _BEFORE.get(stage, "sft") and n != name
    ]
    return before[0] if len(before) == 1 else ""


def _by_stage(of: dict[str, list[CheckpointPart]]) -> Callable[[str], tuple[int, int, str]]:
    def key(name: str) -> tuple[int, int, str]:
        stage, step = of[name][-1].stage, of[name][-1].step
        return ORDER.index(stage) if stage in ORDER else len(ORDER), step or 0, name

    return key


def _shared_beginning(names: list[str]) -> str:
    """What all names begin with, up to and with a hyphen: ``tiny-``."""
    if len(names) < 2:
        return ""
    first, last = min(names), max(names)
    same = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    return first[: first.rfind("-", 0, same) + 1]
