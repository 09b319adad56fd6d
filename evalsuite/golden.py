"""Golden files: a task's exact prompts and the scores of some outputs, pinned beside the plugin.

``golden/NAME.json`` pins what must not move in silence::

    {"prompts": {"VARIANT/K-shot": {"sample": ID, "prompt": TEXT, "choices": [...]}},
     "cases": [{"sample": ID, "output": TEXT, "scores": {"accuracy": 1}}]}

An ``output`` is a written answer, or a whole response such as ``{"type": "chosen", "picked": 2}``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.data import DataFolder
from evalsuite.errors import BadTask
from evalsuite.files import write_atomically
from evalsuite.plan import build_requests, open_data
from evalsuite.request import Choose, Request, Score
from evalsuite.task import Sample, Task


class GoldenPrompt(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The exact prompt of one sample, and what is scored after it."""

    sample: str
    prompt: str
    system: str = ""
    choices: tuple[str, ...] = ()
    continuation: str = ""


class GoldenCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one output of one sample scores; scores left out are not checked.

    ``variant`` is how it was asked, where that decides how an answer is read; the first by default.
    """

    sample: str
    output: str | dict[str, Any]
    scores: dict[str, float | list[float]]
    variant: str = ""


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A golden file."""

    prompts: dict[str, GoldenPrompt] = {}
    cases: tuple[GoldenCase, ...] = ()


def golden_file(task: Task) -> Path:
    """Where the golden file of a loaded task belongs."""
    return task.folder / "golden" / f"{task.meta.name}.json"


def read_golden(task: Task) -> dict[str, Any] | None:
    """The golden file; None where there is none. Raises :class:`BadTask` when it is not JSON."""
    file = golden_file(task)
    try:
        golden = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as fault:
        raise BadTask(f"the golden file is not JSON: {fault}", where=str(file)) from None
    return golden if isinstance(golden, dict) else {"prompts": golden}


def update_golden(task: Task) -> Path:
    """Write the prompts as they are now into the golden file, leaving its cases as they are.

    Raises:
        BadTask: the file that is there is not JSON.
        CannotWrite: its folder cannot be written.
    """
    golden = read_golden(task) or {}
    prompts = golden_prompts(task, open_data(task, None), golden.get("prompts"))
    content = {"prompts": prompts, "cases": golden.get("cases", [])}
    write_atomically(golden_file(task), json.dumps(content, ensure_ascii=False, indent=2) + "\n")
    return golden_file(task)


def golden_prompts(
    task: Task, data: DataFolder, kept: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The ``prompts`` part of a golden file: the first sample, in every variant.

    Args:
        kept: prompts pinned before; those of the form VARIANT/K-shot are made again for their own
            samples, so that nothing that was checked goes unchecked.
    """
    samples = {sample.id: sample for sample in task.samples(data)}
    first = next(iter(samples))
    wanted = {f"{v.name}/{v.num_fewshot}-shot": first for v in task.variants}
    known = {variant.name for variant in task.variants}
    for key, prompt in (kept or {}).items():
        variant, _, shots = key.rpartition("/")
        count = shots.removesuffix("-shot")
        if variant in known and count.isdecimal() and prompt.get("sample") in samples:
            wanted[key] = prompt["sample"]
    prompts = {}
    for key, sample in wanted.items():
        variant, _, shots = key.rpartition("/")
        asked = task.variant(variant), int(shots.removesuffix("-shot"))
        [request] = build_requests(task, data, [samples[sample]], *asked)
        prompts[key] = msgspec.to_builtins(pinned(samples[sample], request))
    return prompts


def pinned(sample: Sample, request: Request) -> GoldenPrompt:
    """What a golden file pins of a request."""
    return GoldenPrompt(
        sample=sample.id,
        prompt=request.prompt.full,
        system=request.prompt.system,
        choices=request.choices if isinstance(request, Choose) else (),
        continuation=request.continuation if isinstance(request, Score) else "",
    )
