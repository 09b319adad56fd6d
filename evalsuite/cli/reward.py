"""``evalsuite reward``: what a reward model says of the answers of finished runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from evalsuite.cli.options import Device


def reward(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Finished runs.")],
    rm: Annotated[str, typer.Option(help="The reward model: a checkpoint folder or hub id.")],
    tasks: Annotated[
        str, typer.Option(help="Only answers to these: names with commas, ladder_* for a group.")
    ] = "",
    device: Device = "auto",
) -> None:
    """Score every generated answer with a reward model, and write it beside the run's records.

    The reward model reads each conversation anew with its own tokenizer and template. The same
    command goes on from where a stopped one was; what is known is not computed again.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    from evalsuite.report.visible import one_line
    from evalsuite.reward import RewardSource, reward_run
    from evalsuite.store import open_run

    found = [open_run(run) for run in runs]
    from evalsuite.engines.reward import TransformersReward

    model = TransformersReward(rm, device=device)
    source = RewardSource(
        name=model.checkpoint.name,
        source=model.checkpoint.source,
        fingerprint=model.checkpoint.fingerprint,
        template=model.template_name,
        template_sha256=model.template_sha256,
        engine=model.description,
    )
    for run in found:
        progress = _progress(f"{run.manifest.run_id} by {source.name}")
        file = reward_run(
            run,
            lambda asked: model.score([(c.question, c.answer, c.finished) for c in asked]),
            source,
            progress,
            [name.strip() for name in tasks.split(",") if name.strip()],
        )
        print(f"rewards: {one_line(str(file))}")


def _progress(title: str) -> Callable[[int, int], None]:
    """A line on standard error at the start, every few seconds and at the end."""
    import time

    from evalsuite.report.visible import one_line

    last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done in (0, total) or now - last > 5:
            last = now
            print(one_line(f"{title}: {done}/{total} answers"), file=sys.stderr, flush=True)

    return show
