"""The prompts that GRPO and RLOO ask: read, judged by somebody, and asked through trl as in training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from evalsuite_train.errors import BadData, BadRecipe
from evalsuite_train.feedback.rows import Asked, read_prompts
from evalsuite_train.generation import check_room
from evalsuite_train.templates import TEMPLATES, Unusable, encode_prompt


def training_prompts(file: Path, tasks: Sequence[str], *, by_rm: bool) -> list[Asked]:
    """The prompts of these tasks; of every task where none is named.

    Args:
        by_rm: whether a reward model judges the prompts that have no rules.

    Raises:
        BadData: no prompts, or one that nothing judges.
    """
    asked = [a for a in read_prompts(file) if not tasks or a.task in tasks]
    unjudged = [a for a in asked if not a.rules and not by_rm]
    if not asked or unjudged:
        what = (
            f"prompt {unjudged[0].id!r} has no rules" if unjudged else "no prompts of these tasks"
        )
        raise BadData(what, where=str(file), hint="check tasks, or name a reward model with rm")
    return asked


def prompt_rows(tokenizer: Any, asked: Sequence[Asked], template: str) -> Dataset:
    """Prompts as the text that trl tokenizes itself, each checked against training's own ids.

    Raises:
        BadRecipe: the template's ids cannot be had from a text.
    """
    form = TEMPLATES[template]
    rows = []
    for one in asked:
        before, _, after = form.human.partition("{}")
        text = before + one.prompt + after
        try:
            wanted = encode_prompt(tokenizer, one.prompt, template)
        except Unusable:
            continue
        if tokenizer(text)["input_ids"] == wanted:
            rows.append({"prompt": text, "id": one.id})
    # A prompt that spells out a control token is not asked; all of them is the template's fault.
    if not rows:
        raise BadRecipe(
            f"template {template!r} cannot be asked through trl",
            hint="use a template that is plain text, such as 'ziya', or the stage ppo",
        )
    return Dataset.from_list(rows)


def check_rows(
    rows: Dataset,
    asked: Sequence[Asked],
    model: Any,
    tokenizer: Any,
    *,
    max_new_tokens: int,
    least: int,
    where: str,
) -> None:
    """Make sure that trl can ask ``rows``, which :func:`prompt_rows` made of ``asked``.

    Args:
        least: prompts that one process asks in a step.
        where: the file, for the error.

    Raises:
        TrainError: a prompt leaves its reply no room in the model's context.
        BadData: fewer prompts than a step asks; trl leaves such a step out, and says nothing.
    """
    place = {a.id: a.where for a in asked}
    for row in rows:
        ids = tokenizer(row["prompt"])["input_ids"]
        check_room(model, ids, max_new_tokens, where=place[row["id"]])
    needed = least * int(os.environ.get("WORLD_SIZE", "1"))
    if len(rows) < needed:
        raise BadData(
            f"{len(rows)} prompts, and a step asks {needed}",
            where=where,
            hint="lower batch or accumulation, raise samples, or give more prompts",
        )
