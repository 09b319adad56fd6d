"""Run the stages of a recipe in order, each once: a finished one is not run again."""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from evalsuite_train.errors import BadRecipe, Diverged, TrainError
from evalsuite_train.files import write_whole
from evalsuite_train.processes import launched, leads
from evalsuite_train.recipe import STAGES, Recipe
from evalsuite_train.state import resumable

DONE = "done.json"
FREE = ("save_every", "log_every", "peak_tflops", "device")
"""Settings that change nothing of what a stage makes."""
ALONE = ("data", "tiny-data", "vocabulary", "feedback")
ZERO = ("pt", "sft", "hfft", "cohft")
"""Stages of one process, and those of several under ``zero`` alone."""


def run_ladder(recipe: Recipe) -> None:
    """Run every section of ``recipe.ladder``; those already finished are left as they are.

    Raises:
        BadRecipe: several processes were started; as :func:`run_section`.
    """
    if launched() > 1:
        raise BadRecipe(
            f"the ladder runs in one process, and torchrun started {launched()}",
            where=recipe.source,
            hint="start it without torchrun, or with it one section of many devices at a time",
        )
    for section in recipe.ladder:
        run_section(recipe, section)


def run_section(recipe: Recipe, section: str) -> None:
    """Run one section, unless it finished before with the same settings on the same sections.

    A stage goes on from its own saved state when it was cut off; its ``done.json`` is written last. A
    finished section that has to run again stands aside until then, and comes back if that cannot go
    on, or if its own settings are asked for again and nothing stands in its place.

    Raises:
        BadRecipe: no such section, its folder is not this section's, or several processes were
            started and it is for one.
        TrainError: another process is running it.
    """
    key, out = section_key(recipe, section), recipe.folder(section)
    _check_launch(recipe, section)
    if _finished_before(out, key):
        return
    with _alone(out):
        _bring_back(out, key)
        if not _finished_before(out, key):  # by the process that held the section until now
            _run_alone(recipe, section, key)


def _check_launch(recipe: Recipe, section: str) -> None:
    """Refuse several processes that would each do the whole work and write over one another."""
    stage, where = recipe.stage_of(section), f"{recipe.source}: {section}"
    if launched() == 1:
        return
    if stage in ALONE:
        raise BadRecipe(
            f"stage {stage} runs in one process, and torchrun started {launched()}",
            where=where,
            hint=f"start it without torchrun: evalsuite-train {section} --recipe {recipe.source}",
        )
    if stage in ZERO and recipe.sections[section].get("zero") is None:
        raise BadRecipe(
            f"torchrun started {launched()} processes, and without zero each would train alone",
            where=where,
            hint="set zero: zero2.json or zero3.json, or start it without torchrun",
        )


def _finished_before(out: Path, key: str) -> bool:
    same = (_finished(out) or {}).get("key") == key
    if same:
        print(f"{out.name}: finished before, in {out}", flush=True)
    return same


def _run_alone(recipe: Recipe, section: str, key: str) -> None:
    module = importlib.import_module(STAGES[recipe.stage_of(section)])
    config, out = recipe.config(section, module.Config), recipe.folder(section)
    finished, aside = _finished(out), _aside(out)
    if finished is not None and leads():
        _put_aside(recipe, section, out, aside)
    started = time.monotonic()
    print(f"{section}: starting, in {out}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    try:
        module.run(config, recipe, out)
    except BaseException as fault:
        if leads() and _finished(aside) is not None:
            if isinstance(fault, Diverged) or not resumable(out):
                shutil.rmtree(out)
                aside.rename(out)
                print(f"{section}: failed; what was finished before is back in {out}", flush=True)
            else:
                print(f"{section}: cut off; what was finished before is in {aside}", flush=True)
        raise
    done = {
        "recipe": recipe.name,
        "section": section,
        "key": key,
        "seconds": round(time.monotonic() - started, 1),
    }
    write_whole(out / DONE, json.dumps(done, indent=2) + "\n")
    if leads() and _finished(aside) is not None:
        shutil.rmtree(aside)
    print(f"{section}: finished in {done['seconds']:.0f} s", flush=True)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep every other process out of a section's folder; processes of one launch come in together.

    The first of a launch holds the lock for all of them. The system gives it back when its holder
    dies, however it dies.
    """
    if not leads():
        yield
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_name(f".{out.name}.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainError(
                "another process is running this section",
                where=str(out),
                hint="wait for it, or choose another --work",
            ) from None
        yield


def _aside(out: Path) -> Path:
    """Where a finished section stands while it is run anew."""
    return out.with_name(f".{out.name}.before")


def _bring_back(out: Path, key: str) -> None:
    """Of these settings, what was finished before, if what should have replaced it was removed."""
    before = _finished(_aside(out)) or {}
    if leads() and not out.exists() and before.get("key") == key:
        _aside(out).rename(out)


def _put_aside(recipe: Recipe, section: str, out: Path, aside: Path) -> None:
    """Move a finished section away; only a folder that this very section wrote."""
    found = _finished(out) or {}
    if out.is_symlink() or (found.get("recipe"), found.get("section")) != (recipe.name, section):
        raise BadRecipe(
            f"another training's results stand in {out}",
            where=f"{recipe.source}: {section}",
            hint="choose another --work, or move that folder away",
        )
    print(f"{section}: the recipe has changed since; starting anew", flush=True)
    if _finished(aside) is not None:
        shutil.rmtree(aside)
    out.rename(aside)


def section_key(recipe: Recipe, section: str, above: tuple[str, ...] = ()) -> str:
    """A hash of the section's settings and, through them, of every section it builds on.

    Raises:
        BadRecipe: sections that build on each other in a circle.
    """
    if section in above:
        circle = " → ".join([*above[above.index(section) :], section])
        raise BadRecipe(f"sections build on each other: {circle}", where=recipe.source)
    module = importlib.import_module(STAGES[recipe.stage_of(section)])
    settings = msgspec.to_builtins(recipe.config(section, module.Config), enc_hook=str)
    settings = {name: value for name, value in settings.items() if name not in FREE}
    below = {text.partition("/")[0] for text in _texts(settings)} & recipe.sections.keys() - {
        section
    }
    content = {
        "seed": recipe.seed,
        "stage": recipe.stage_of(section),
        "settings": settings,
        "below": {name: section_key(recipe, name, (*above, section)) for name in sorted(below)},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _finished(out: Path) -> dict[str, Any] | None:
    """What ``done.json`` says, where a section has finished."""
    try:
        found = json.loads((out / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
