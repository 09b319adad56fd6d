"""The held-out questions that evalsuite's tasks ``ladder_*`` ship: ``python -m evalsuite_train.tiny.samples FOLDER``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from evalsuite_train.tiny.item import Item
from evalsuite_train.tiny.stage import TASKS, draw

COUNT, SEED = 160, 2026
MORE = {"translation": 480, "code": 480}
"""Skills beside those that PPO trains: a loss of five points there is to be seen, or excluded."""


def rows(task: str) -> Iterator[dict[str, Any]]:
    """``COUNT`` questions of a task, or ``MORE``, no two alike, of as many contents as there are."""
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
    seen: dict[str, int] = {}
    prompts: set[str] = set()
    for tries, item in enumerate(draw(rng, "test", [task])):
        allowed = 1 + tries // 300
        if task == "knowledge" and "options" not in item.fields:
            continue
        if item.prompt in prompts or seen.get(item.content, 0) >= allowed:
            continue
        prompts.add(item.prompt)
        seen[item.content] = seen.get(item.content, 0) + 1
        found.append(item)
        if len(found) == MORE.get(task, COUNT):
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
