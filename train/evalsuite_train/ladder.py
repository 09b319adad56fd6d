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

from evalsuite_train.errors import BadRecipe
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
    finished section that has to run again stands aside until then, and comes back if that fails.

    Raises:
        BadRecipe: no such section, or its folder is not this section's.
    """
    module = importlib.import_module(STAGES[recipe.stage_of(section)])
    config, out = recipe.config(section, module.Config), recipe.folder(section)
    key, finished = section_key(recipe, section), _finished(out)
    if finished is not None and finished.get("key") == key:
        print(f"{section}: finished before, in {out}", flush=True)
        return
    aside = out.with_name(f".{section}.before")
    if finished is not None:
        _put_aside(recipe, section, out, aside)
    started = time.monotonic()
    print(f"{section}: starting, in {out}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    try:
        module.run(config, recipe, out)
    except BaseException:
        if _finished(aside) is not None and not any(out.rglob("state*")):  # nothing to go on from
            shutil.rmtree(out)
            aside.rename(out)
            print(f"{section}: failed; what was finished before is back in {out}", flush=True)
        raise
    done = {
        "recipe": recipe.name,
        "section": section,
        "key": key,
        "seconds": round(time.monotonic() - started, 1),
    }
    temporary = (out / DONE).with_suffix(".new")
    temporary.write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")
    temporary.replace(out / DONE)
    if _finished(aside) is not None:
        shutil.rmtree(aside)
    print(f"{section}: finished in {done['seconds']:.0f} s", flush=True)


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
