"""Run the stages of a recipe in order, each once: a finished one is not run again."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from evalsuite_train.recipe import STAGES, Recipe

DONE = "done.json"
FREE = ("save_every", "log_every", "peak_tflops", "device")
"""Settings that change nothing of what a stage makes."""


def run_ladder(recipe: Recipe) -> None:
    """Run every section of ``recipe.ladder``; those already finished are left as they are."""
    for section in recipe.ladder:
        run_section(recipe, section)


def run_section(recipe: Recipe, section: str) -> None:
    """Run one section, unless it finished before with the same settings on the same sections.

    A stage goes on from its own saved state when it was cut off; its ``done.json`` is written last. A
    finished section that has to run again stands aside as ``SECTION.old`` until then.
    """
    module = importlib.import_module(STAGES[recipe.stage_of(section)])
    config, out, key = (
        recipe.config(section, module.Config),
        recipe.folder(section),
        section_key(recipe, section),
    )
    if (finished := _finished(out)) is not None:
        if finished == key:
            print(f"{section}: finished before, in {out}", flush=True)
            return
        print(f"{section}: the recipe has changed since; starting anew", flush=True)
        old = out.with_name(out.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)  # kept until the new one is finished
    started = time.monotonic()
    print(f"{section}: starting, in {out}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    module.run(config, recipe, out)
    seconds = round(time.monotonic() - started, 1)
    temporary = (out / DONE).with_suffix(".new")
    temporary.write_text(
        json.dumps({"key": key, "seconds": seconds}, indent=2) + "\n", encoding="utf-8"
    )
    temporary.replace(out / DONE)
    shutil.rmtree(out.with_name(out.name + ".old"), ignore_errors=True)
    print(f"{section}: finished in {seconds:.0f} s", flush=True)


def section_key(recipe: Recipe, section: str) -> str:
    """A hash of the section's settings and, through them, of every section it builds on."""
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
        "below": {name: section_key(recipe, name) for name in sorted(below)},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _finished(out: Path) -> str | None:
    try:
        return str(json.loads((out / DONE).read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
