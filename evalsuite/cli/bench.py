"""``evalsuite bench``: speed and memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from evalsuite.cli import options

if TYPE_CHECKING:
    from evalsuite.measurements import Bench


def bench(
    model: options.BenchModels,
    dtype: options.Dtypes = "auto",
    engine: options.EngineNames = "auto",
    batch_tokens: options.BatchTokenSizes = "",
    engine_option: options.EngineOption = None,
    device: options.Device = "auto",
    prompt_tokens: options.PromptTokens = 512,
    answer_tokens: options.AnswerTokens = 64,
    requests: options.Requests = 16,
    tasks: options.TasksInstead = "",
    data: options.Data = None,
    limit: options.Limit = None,
    rounds: options.Rounds = 5,
    repeats: options.Repeats = 3,
    base_url: options.LoadedServer = "",
    rates: options.Rates = "1,2,4,8",
    ttft_limit: options.TtftLimit = None,
    tpot_limit: options.TpotLimit = None,
    seed: options.BenchSeed = 0,
    out: options.BenchOut = Path("runs"),
    trust_remote_code: options.TrustRemoteCode = False,
    base: options.Base = None,
    json: options.JsonRecord = False,
) -> int:
    """Measure throughput, latency and memory; several dtypes, engines or models side by side."""
    from evalsuite.bench.load import Limits
    from evalsuite.bench.offline import bench_offline
    from evalsuite.bench.online import Load, bench_online
    from evalsuite.bench.sample import Job, Setup
    from evalsuite.bench.workload import Lengths
    from evalsuite.cli.pairs import by_key, by_task
    from evalsuite.cli.run import let_waiting_threads_sleep

    let_waiting_threads_sleep()
    command = ("evalsuite", *sys.argv[1:])
    models = list(dict.fromkeys(model))
    lengths = Lengths(prompt_tokens=prompt_tokens, answer_tokens=answer_tokens, requests=requests)
    names = tuple(_listed(tasks))
    folders = {task: path for task, path in by_task("--data", data or [], names).items() if path}
    if base_url:
        load = Load(
            base_url=base_url,
            rates=_rates(rates),
            lengths=lengths,
            limits=Limits(ttft=ttft_limit, tpot=tpot_limit),
            tasks=names,
            data=folders,
            rounds=rounds,
            seed=seed,
        )
        found, exit_code = bench_online(models, load, command, _say)
    else:
        setups = [
            Setup(
                model=name,
                engine=kind,
                dtype=precision,
                device=device,
                batch_tokens=size,
                trust_remote_code=trust_remote_code,
                base=base,
                engine_options=by_key("--engine-option", engine_option or []),
            )
            for name in models
            for kind in _listed(engine) or ["auto"]
            for precision in _listed(dtype) or ["auto"]
            for size in _sizes(batch_tokens)
        ]
        job = Job(
            setup=setups[0],
            lengths=lengths,
            tasks=names,
            data=folders,
            limit=limit,
            repeats=repeats,
            seed=seed,
        )
        found, exit_code = bench_offline(setups, job, rounds, command, _say)
    _write(found, out, json=json)
    return exit_code


def _write(bench: Bench, out: Path, *, json: bool) -> None:
    """The record, the exchange format and the picture; then show it."""
    from evalsuite import lines
    from evalsuite.files import write_atomically
    from evalsuite.measurements import write_bench
    from evalsuite.report.bench_chart import PICTURE, bench_svg
    from evalsuite.report.bench_table import print_bench
    from evalsuite.report.pytest_benchmark import EXCHANGE, pytest_benchmark_json

    folder = write_bench(out, bench)
    write_atomically(folder / EXCHANGE, pytest_benchmark_json(bench))
    write_atomically(folder / PICTURE, bench_svg(bench))
    if json:
        sys.stdout.write(lines.encode(bench).decode("utf-8") + "\n")
    else:
        print_bench(bench, str(folder))


def _say(text: str) -> None:
    from evalsuite.report.visible import visible

    print(visible(text), file=sys.stderr, flush=True)


def _rates(text: str) -> tuple[float, ...]:
    from evalsuite.errors import BadOption

    try:
        return tuple(float(part) for part in _listed(text))
    except ValueError:
        raise BadOption(
            f"cannot read {text!r}", where="--rates", hint="requests a second, as 1,2,4 or inf"
        ) from None


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _sizes(text: str) -> list[int | None]:
    from evalsuite.errors import BadOption

    sizes: list[int | None] = []
    for part in _listed(text):
        if not (part.isdecimal() and 0 < len(part) < 10):
            raise BadOption(f"{part!r} is not a number of tokens", where="--batch-tokens")
        sizes.append(int(part))
    return sizes or [None]
