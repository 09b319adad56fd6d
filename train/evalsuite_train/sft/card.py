"""What a checkpoint of this stage says about itself: ``evalsuite.json`` and the model card."""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any

from evalsuite_train.errors import shown
from evalsuite_train.recipe import Recipe
from evalsuite_train.sft.samples import Ledger


def card(
    recipe: Recipe,
    section: str,
    *,
    step: int,
    parent: str | None,
    template: str | None,
    part: int | None = None,
) -> str:
    """The text of ``evalsuite.json``; ``part`` is the number of an intermediate stage."""
    name = f"{recipe.name}-{section}"
    content = {
        "name": name if part is None else f"{name}-{part}",
        "family": recipe.name,
        "stage": recipe.stage_of(section),
        "step": step,
        "seed": recipe.seed,
        "parent": parent,
        "chat_template": template,
    }
    return json.dumps(content, indent=2) + "\n"


def model_card(
    name: str,
    parent: str,
    ledger: Ledger,
    settings: dict[str, Any],
    accuracy: dict[str, dict[str, float]],
) -> str:
    """The text of ``README.md``.

    Args:
        settings: what to list of the configuration.
        accuracy: split → task → accuracy.
    """
    lines = [
        f"# {name}",
        "",
        f"Fine-tuned from {parent} on conversations; only the assistant's replies, and the token that "
        "ends each, were learnt.",
        "",
        "## Training",
        "",
        *(f"- {key}: {value}" for key, value in settings.items()),
        "",
        "## Data",
        "",
        f"{ledger.rows:,} rows, {sum(ledger.kept.values()):,} learnt from "
        f"({ledger.tokens:,} tokens, {ledger.learnt:,} of them learnt).",
        "",
        "| task | samples |",
        "|---|---:|",
        *(f"| {_cell(task)} | {count:,} |" for task, count in sorted(ledger.kept.items())),
    ]
    if ledger.dropped:
        lines += ["", "| dropped because | rows |", "|---|---:|"]
        lines += [
            f"| {_cell(reason)} | {count:,} |" for reason, count in sorted(ledger.dropped.items())
        ]
    if accuracy:
        tasks = sorted({task for row in accuracy.values() for task in row})
        lines += [
            "",
            "## Greedy accuracy by rules",
            "",
            f"| split | {' | '.join(map(_cell, tasks))} |",
            "|---" * (len(tasks) + 1) + "|",
        ]
        for split, row in accuracy.items():
            cells = [f"{row[task]:.3f}" if task in row else "" for task in tasks]
            lines.append(f"| {split} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(name: str) -> str:
    """A name from the data as one cell of a table, which it can neither leave nor mark up."""
    plain = escape(shown(" ".join(name.split())), quote=False)
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", plain)
