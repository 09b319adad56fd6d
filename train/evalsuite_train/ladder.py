"""Run the stages of a recipe in order, each once: a finished one is not run again."""

from __future__ import annotations

import importlib
import json
import time

import msgspec

from evalsuite_train.recipe import STAGES, Recipe

DONE = "done.json"


def run_ladder(recipe: Recipe) -> None:
    """Run every section of ``recipe.ladder``; those already finished are left as they are."""
    for section in recipe.ladder:
        run_section(recipe, section)


def run_section(recipe: Recipe, section: str) -> None:
    """Run one section unless it finished before with the same settings.

    A stage goes on from its own saved state when it was cut off; its ``done.json`` is written last.
    """
    module = importlib.import_module(STAGES[recipe.stage_of(section)])
    config = recipe.config(section, module.Config)
    out = recipe.folder(section)
    settings = {"seed": recipe.seed, **msgspec.to_builtins(config, enc_hook=str)}
    done = out / DONE
    if done.is_file() and json.loads(done.read_text(encoding="utf-8"))["settings"] == settings:
        print(f"{section}: finished before, in {out}", flush=True)
        return
    started = time.monotonic()
    print(f"{section}: starting, in {out}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    module.run(config, recipe, out)
    seconds = round(time.monotonic() - started, 1)
    temporary = done.with_suffix(".new")
    temporary.write_text(json.dumps({"settings": settings, "seconds": seconds}, indent=2) + "\n", encoding="utf-8")
    temporary.replace(done)
    print(f"{section}: finished in {seconds:.0f} s", flush=True)
