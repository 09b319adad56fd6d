"""What ``evalsuite bench`` writes down: one :class:`Bench` a command, in a folder of the run store.

    OUT/BENCH_ID/bench.json             everything, with each round's numbers
    OUT/BENCH_ID/pytest-benchmark.json  the timings, for ``pytest-benchmark compare``
    OUT/BENCH_ID/bench.svg              a picture of them

``SCHEMA`` stands in the record and is raised when a field changes its meaning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from evalsuite import lines
from evalsuite.errors import DataMissing, RunDamaged, UnknownName, nearest
from evalsuite.files import write_atomically
from evalsuite.record import digest
from evalsuite.stats.medians import Rounds, Spread, median
from evalsuite.store import Run

BENCH = "bench.json"
SCHEMA = 1

Role = Literal["", "speed", "memory"]


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """What a speed depends on beside the program. Speeds compare where ``signature`` is equal.

    Attributes:
        cpu: model name.
        cores, threads: of the machine; ``used`` is how many threads the engine computes with.
        memory_gib: of the machine, rounded.
        features: instruction sets that decide which kernels run.
        gpus: model names, one an accelerator that the process sees.
        server: address of a server that computes elsewhere, whose hardware is unknown.
    """

    cpu: str
    cores: int
    threads: int
    used: int
    memory_gib: int
    features: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    server: str = ""

    @property
    def signature(self) -> str:
        """One line for people, which holds everything."""
        parts = [
            f"cpu:{self.cpu}",
            f"cores:{self.cores}/{self.threads}",
            f"used:{self.used}",
            f"memory:{self.memory_gib}GiB",
            f"features:{'+'.join(self.features) or 'none'}",
            *([f"gpu:{'+'.join(self.gpus)}"] if self.gpus else []),
            *([f"server:{self.server}"] if self.server else []),
        ]
        return "|".join(parts)


class Quantity(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was measured, over all rounds.

    Attributes:
        workload: what was computed meanwhile; empty for the configuration as a whole.
        rounds: the repeats of each round.
        value, low, high: median and its interval, see :mod:`evalsuite.stats.medians`.
        role: what a gate takes it for.
    """

    workload: str
    name: str
    unit: str
    rounds: tuple[tuple[float, ...], ...]
    value: float
    low: float
    high: float
    higher_is_better: bool = False
    role: Role = ""

    @property
    def spread(self) -> Spread:
        """Median and limits."""
        return Spread(self.value, self.low, self.high)


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one engine with one set of options.

    Attributes:
        label: unique in the record.
        fingerprint: the checkpoint's, by which its scores are found; empty for a served model.
        engine: name, dtype and whatever else the engine says of itself.
        failure: why there are no numbers, or fewer rounds than asked for.
    """

    label: str
    model: str
    fingerprint: str
    chat_template: str = ""
    engine: dict[str, Any] = {}
    quantities: tuple[Quantity, ...] = ()
    failure: str = ""

    def find(self, workload: str, name: str) -> Quantity | None:
        """The quantity of that name, if it was measured."""
        return next((q for q in self.quantities if (q.workload, q.name) == (workload, name)), None)


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What is computed.

    Attributes:
        name: ``prefill``, ``decode``, ``mixed``, a task's name, or ``4/s`` for a rate.
        prompt_tokens, answer_tokens: of each request; 0 where they differ from request to request.
    """

    name: str
    requests: int
    prompt_tokens: int = 0
    answer_tokens: int = 0


class Bench(msgspec.Struct, kw_only=True):
    """``bench.json``.

    Attributes:
        rounds: how often each configuration was measured, taking turns with the others; offline
            each time in a process of its own.
        warnings: what may have falsified the numbers.
    """

    bench_id: str
    created: str
    finished: str
    evalsuite: str
    command: tuple[str, ...]
    hardware: Hardware
    environment: dict[str, str]
    workloads: tuple[Workload, ...]
    rounds: int
    repeats: int
    seed: int
    configurations: tuple[Configuration, ...]
    warnings: tuple[str, ...] = ()
    schema: int = SCHEMA


def quantity(
    workload: str,
    name: str,
    unit: str,
    rounds: Rounds,
    *,
    higher_is_better: bool = False,
    role: Role = "",
) -> Quantity:
    """A quantity with its median and interval."""
    found = median(rounds)
    return Quantity(
        workload=workload,
        name=name,
        unit=unit,
        rounds=tuple(tuple(repeats) for repeats in rounds),
        value=found.value,
        low=found.low,
        high=found.high,
        higher_is_better=higher_is_better,
        role=role,
    )


def bench_id(created: str, command: tuple[str, ...], name: str) -> str:
    """``bench-NAME-HASH``: every command makes a record of its own, since timings never repeat."""
    return f"bench-{name}-{digest([created, command])[:10]}"


def write_bench(out: Path, bench: Bench) -> Path:
    """Write ``bench.json`` into its folder under ``out`` and return the folder."""
    folder = out / bench.bench_id
    write_atomically(folder / BENCH, lines.pretty(bench) + b"\n")
    return folder


def open_bench(path: Path) -> Bench:
    """Read a record by its folder or its ``bench.json``.

    Raises:
        DataMissing: there is none; the nearest one is named.
        RunDamaged: it cannot be read.
    """
    file = path if path.name == BENCH else path / BENCH
    if not file.is_file():
        known = [found.parent.name for found in file.parent.parent.glob(f"*/{BENCH}")]
        near = nearest(file.parent.name, known)
        hint = f"did you mean {near!r}?" if near else "`evalsuite bench` writes one"
        raise DataMissing("no bench record", where=str(file.parent), hint=hint)
    try:
        raw = lines.decode(file.read_bytes(), dict[str, Any])
        if isinstance(raw.get("schema"), int) and raw["schema"] > SCHEMA:
            raise RunDamaged(
                f"written by a newer evalsuite (schema {raw['schema']})",
                where=str(file),
                hint="update evalsuite",
            )
        return msgspec.convert(_with_nan(raw), Bench)
    except msgspec.DecodeError as fault:
        raise RunDamaged(f"not a bench record: {fault}", where=str(file)) from None


def _with_nan(raw: dict[str, Any]) -> dict[str, Any]:
    """JSON has no nan; null stands for a median or limit that there is not."""
    for configuration in _listed(raw.get("configurations")):
        for found in _listed(configuration.get("quantities")):
            found.update({k: math.nan for k in ("value", "low", "high") if found.get(k, 0) is None})
    return raw


def _listed(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def find_benches(out: Path) -> list[Bench]:
    """Every readable record directly under ``out``, the oldest first."""
    found = []
    for file in sorted(out.glob(f"*/{BENCH}")):
        try:
            found.append(open_bench(file))
        except RunDamaged:
            continue
    return sorted(found, key=lambda bench: (bench.created, bench.bench_id))


def choose(bench: Bench, label: str) -> Configuration:
    """The configuration of a label; without one the only one there is.

    Raises:
        UnknownName: no such label, or several configurations and no label.
    """
    labels = [configuration.label for configuration in bench.configurations]
    if not label and len(labels) == 1:
        return bench.configurations[0]
    for configuration in bench.configurations:
        if configuration.label == label:
            return configuration
    hint = "append :CONFIGURATION, one of " + ", ".join(map(repr, labels))
    raise UnknownName("configuration", label, labels, where=bench.bench_id, hint=hint)


def named_configuration(text: str) -> tuple[Bench, Configuration]:
    """From ``FOLDER`` or ``FOLDER:CONFIGURATION``.

    Raises:
        DataMissing, RunDamaged, UnknownName: see :func:`open_bench` and :func:`choose`.
    """
    if (Path(text) / BENCH).is_file() or ":" not in text:
        bench = open_bench(Path(text))
        return bench, choose(bench, "")
    folder, _, label = text.rpartition(":")
    bench = open_bench(Path(folder))
    return bench, choose(bench, label)


def measured(run: Run, benches: Sequence[Bench]) -> list[tuple[Bench, Configuration]]:
    """The measurements of a run's checkpoint on its engine and dtype, the newest last."""
    manifest = run.manifest
    wanted = (manifest.checkpoint.fingerprint, *_computed(manifest.engine))
    return [
        (bench, configuration)
        for bench in benches
        for configuration in bench.configurations
        if (configuration.fingerprint, *_computed(configuration.engine)) == wanted
        and configuration.quantities
    ]


def newest_of(
    baseline: Run, candidate: Run
) -> tuple[tuple[Bench, Configuration], tuple[Bench, Configuration]]:
    """The newest record beside two runs that holds both, else the newest of each.

    Raises:
        DataMissing: one of them was never measured.
    """
    sides = []
    for run in (baseline, candidate):
        found = measured(run, find_benches(run.path.parent))
        if not found:
            raise DataMissing(
                f"no bench record of {run.manifest.checkpoint.name} beside its run",
                where=str(run.path.parent),
                hint="evalsuite bench --model … --out with the runs' folder writes one",
            )
        sides.append(found)
    for one in reversed(sides[0]):
        for other in reversed(sides[1]):
            if one[0].bench_id == other[0].bench_id:
                return one, other
    return sides[0][-1], sides[1][-1]


def _computed(engine: dict[str, Any]) -> tuple[str, str]:
    return str(engine.get("name", "")), str(engine.get("dtype", ""))
