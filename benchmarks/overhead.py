"""What everything but the engine costs: processor seconds and memory, by number of requests.

Multiple choice in CMMLU's layout goes through the whole of ``evalsuite run`` (reading, prompts,
tokens, cache, journal, scores, intervals) with an engine that tokenises as the real ones do and
then makes answers up. Each number of requests is a process of its own.

    python benchmarks/overhead.py [--requests 10000,200000]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from versus_material import SHIPPED, write_letters

from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines._preflight import Preflight
from evalsuite.engines._tokens import Tokens
from evalsuite.engines.base import Engine, Prepared
from evalsuite.request import Choose, Chosen, Failure, Request, Response, most_likely
from tasks.cmmlu import TASK as CMMLU


class IdleEngine(Engine):
    """Prepares as an engine with a tokenizer does; its answers depend on the content key alone."""

    name = "idle"
    context = 4096

    def __init__(self) -> None:
        checkpoint = open_checkpoint(str(SHIPPED))
        self._preflight = Preflight(
            Tokens(checkpoint),
            None,
            force_template=False,
            context=self.context,
            rows=1 << 20,
            identity=[checkpoint.fingerprint, self.name],
        )

    @property
    def description(self) -> dict[str, Any]:
        """Nothing changes its digits."""
        return {"name": self.name, "version": "1"}

    def prepare(self, names: Sequence[str], requests: Sequence[Request]) -> list[Prepared]:
        """As a real engine."""
        return self._preflight.prepare(names, requests)

    def answer(self, prepared: Sequence[Prepared]) -> Iterator[tuple[int, Response | Failure]]:
        """Made up at once."""
        for index, item in enumerate(prepared):
            assert isinstance(item.request, Choose)
            logprobs = tuple(-float(int(item.key[at], 16)) for at in range(len(item.tails)))
            counts = tuple(map(len, item.tails))
            yield index, Chosen(most_likely(logprobs), logprobs, counts, len(item.prompt))


def main() -> None:
    """Measure each number of requests, and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--requests", default="10000,200000")
    parser.add_argument("--profile", action="store_true", help="print where the time goes instead")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        _measure(options.measure, options.profile)
        return
    for wanted in map(int, options.requests.split(",")):
        with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
            write_letters(Path(folder, "data"), sorted(CMMLU.subjects), -(-wanted // 67))
            command = [sys.executable, __file__, "--measure", folder]
            command += ["--profile"] if options.profile else []
            root = str(Path(__file__).resolve().parent.parent)
            path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
            subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})


def _measure(folder: Path, profile: bool) -> None:
    if not profile:
        print(_line(folder), flush=True)
        return
    import cProfile
    import pstats

    _line(folder)  # so that nothing is left to import
    shutil.rmtree(folder / "out")
    (folder / "answers.sqlite").unlink()
    with cProfile.Profile() as profiler:
        _line(folder)
    pstats.Stats(profiler).sort_stats("cumulative").print_stats(70)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(40)


def _line(folder: Path) -> str:
    from evalsuite.cache import AnswerCache
    from evalsuite.contestant import Contestant
    from evalsuite.evaluation import Settings, evaluate, new_manifest
    from evalsuite.plan import TaskChoice, plan_task
    from evalsuite.record import CheckpointPart
    from evalsuite.report.displays import open_display

    engine = IdleEngine()
    part = CheckpointPart(name="idle", source="idle", fingerprint="0" * 64)
    contestant = Contestant(part, {"name": "idle"}, lambda: engine)
    imported, begun = _used(), time.process_time()
    choice = TaskChoice(label="cmmlu", variant="lm-eval", data=folder / "data")
    planned = [plan_task(choice)]
    settings = Settings(out=folder / "out")
    manifest = new_manifest(contestant, planned, settings)
    plan = time.process_time() - begun
    cache = AnswerCache(folder / "answers.sqlite")
    display = open_display("plain")
    run = evaluate(manifest, planned, contestant.open_engine, settings, cache, display)
    cache.close()
    whole = time.process_time() - begun
    seconds = json.dumps(run.manifest.seconds)
    count = sum(part.samples for part in run.manifest.tasks)
    return (
        f"{count} requests: {whole:.2f} s of processor time, {1e4 * whole / count:.2f} s for 10,000"
        f" (plan {plan:.2f} s, {begun:.2f} s of imports before it); {imported:.0f} MB before,"
        f" {_used():.0f} MB at most; {seconds}"
    )


def _used() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
