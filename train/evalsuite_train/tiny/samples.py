"""The held-out questions that evalsuite's tasks ``ladder_*`` ship: ``python -m evalsuite_train.tiny.samples FOLDER``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from evalsuite_train.tiny.item import Item
from evalsuite_train.tiny.stage import TASKS, draw

COUNT, SEED = 480, 2026
COUNTS = {"knowledge": 960, "wishes": 160}
"""Enough for a loss of five points to be seen, or excluded: answers at chance take more, and the wishes run out."""
BALANCED = {"knowledge": ("answer", 4), "safety": ("harmful", 2)}
"""Task → the field, and how many values it has, each as often as the others: one answer to everything earns chance."""


def rows(task: str) -> Iterator[dict[str, Any]]:
    """``COUNT`` questions of a task, or as ``COUNTS`` says, no two alike, of as many contents as there are."""
    for number, item in enumerate(_spread(task)):
        yield {
            "id": str(number),
            "language": item.language,
            "content": item.content,
            "prompt": item.prompt,
            "reference": item.reply,
            **item.fields,
        }


def _spread(task: str) -> list[Item]:
    """Draw from the test split, each content once before any comes again."""
    rng = Random(f"{SEED}/{task}")
    found: list[Item] = []
    count = COUNTS.get(task, COUNT)
    seen: Counter[str] = Counter()
    values: Counter[str] = Counter()
    field, most = "", count
    if task in BALANCED:
        field, kinds = BALANCED[task]
        most = count // kinds
    prompts: set[str] = set()
    for tries, item in enumerate(draw(rng, "test", [task])):
        allowed = 1 + tries // 300
        if task == "knowledge" and "options" not in item.fields:
            continue
        value = str(item.fields.get(field))
        if item.prompt in prompts or seen[item.content] >= allowed or values[value] >= most:
            continue
        prompts.add(item.prompt)
        seen[item.content] += 1
        values[value] += 1
        found.append(item)
        if len(found) == count:
            break
    return found


def main() -> None:
    for task in TASKS:
        file = Path(sys.argv[1]) / f"ladder_{task}" / "questions.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows(task)]
        file.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
