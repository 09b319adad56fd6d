"""The data stage of the tiny ladder: everything is drawn from the grammars, with held-out contents kept away."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from evalsuite_train.recipe import Recipe
from evalsuite_train.tiny.arithmetic import arithmetic
from evalsuite_train.tiny.code import code
from evalsuite_train.tiny.item import Generator, Item, Split
from evalsuite_train.tiny.knowledge import knowledge
from evalsuite_train.tiny.safety import safety
from evalsuite_train.tiny.translation import translation
from evalsuite_train.tiny.wishes import wishes

TASKS: dict[str, Generator] = {
    "arithmetic": arithmetic,
    "translation": translation,
    "code": code,
    "knowledge": knowledge,
    "safety": safety,
    "wishes": wishes,
}

FLAWED = ("arithmetic", "safety", "wishes")
"""Tasks whose items come with flawed replies."""
HINDSIGHT = ("safety", "wishes")
"""Tasks whose flaws a chain of hindsight shows: those that SFT was careless about."""
_CHINESE = re.compile("[一-鿿]")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much is drawn.

    Attributes:
        documents, conversations, preferences, prompts: how many of each.
        validation: how many held-out questions a task.
        multi_turn: the share of conversations of two turns.
        shares: task → its share of documents and conversations, against the others'; 1 if unsaid.
        careless: task → the share of SFT replies that are flawed, as crowd-written replies are.
    """

    documents: int = 120_000
    conversations: int = 120_000
    preferences: int = 20_000
    prompts: int = 20_000
    validation: int = 100
    multi_turn: float = 0.1
    shares: dict[str, float] = {}
    careless: dict[str, float] = {}

    def __post_init__(self) -> None:
        if min(self.documents, self.conversations, self.preferences, self.prompts) < 1:
            raise ValueError("there is at least one of everything")
        for name in ("shares", "careless"):
            for task, share in getattr(self, name).items():
                if task not in TASKS:
                    raise ValueError(f"{name}: no task named {task!r}; known: {', '.join(TASKS)}")
                if not 0 <= share < 1000 or (name == "careless" and share > 1):
                    raise ValueError(f"{name}: {task} is {share}")
        if not any(self.shares.get(task, 1.0) for task in TASKS):
            raise ValueError("shares: all tasks have none")


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Write pt, sft, preferences, hindsight, prompts, validation (JSONL) and what they are made of.

    ``pt-latin.jsonl`` holds the documents without Chinese: what a base vocabulary is trained on.
    """
    seed = recipe.seed * 1000
    documents = list(_documents(Random(seed + 1), config))
    files: dict[str, Iterable[dict[str, Any]]] = {
        "pt.jsonl": documents,
        "pt-latin.jsonl": (row for row in documents if not _CHINESE.search(row["text"])),
        "sft.jsonl": _conversations(Random(seed + 2), config),
        "preferences.jsonl": _preferences(Random(seed + 3), config.preferences, FLAWED),
        "hindsight.jsonl": _preferences(Random(seed + 6), config.preferences, HINDSIGHT),
        "prompts.jsonl": _questions(Random(seed + 4), "train", config.prompts),
        "validation.jsonl": _questions(
            Random(seed + 5), "validation", config.validation * len(TASKS)
        ),
    }
    mixture: dict[str, dict[str, int]] = {}
    for name, rows in files.items():
        mixture[name] = _write(out / name, rows)
    (out / "mixture.json").write_text(
        json.dumps(mixture, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def draw(rng: Random, split: Split, tasks: Iterable[str] = TASKS) -> Iterator[Item]:
    """Endless items of one split, the tasks in turn."""
    generators = [TASKS[task] for task in tasks]
    while True:
        for generator in generators:
            item = generator(rng)
            while item.split != split:
                item = generator(rng)
            yield item


def mixed(rng: Random, shares: dict[str, float]) -> Iterator[Item]:
    """Endless training items, the tasks at random by their shares."""
    streams = {task: draw(rng, "train", [task]) for task in TASKS}
    tasks, weights = list(TASKS), [shares.get(task, 1.0) for task in TASKS]
    while True:
        yield next(streams[rng.choices(tasks, weights)[0]])


def _documents(rng: Random, config: Config) -> Iterator[dict[str, Any]]:
    for item in islice(mixed(rng, config.shares), config.documents):
        yield {"text": item.document, "source": item.task, "language": item.language}


def _conversations(rng: Random, config: Config) -> Iterator[dict[str, Any]]:
    items = mixed(rng, config.shares)
    for _ in range(config.conversations):
        turns = list(islice(items, 2 if rng.random() < config.multi_turn else 1))
        said: list[dict[str, str]] = []
        for item in turns:
            careless = item.flawed and rng.random() < config.careless.get(item.task, 0.0)
            reply = rng.choice(item.flawed) if careless else item.reply
            said += [{"from": "human", "value": item.prompt}, {"from": "assistant", "value": reply}]
        yield {"task": turns[0].task, "conversations": said}


def _preferences(rng: Random, count: int, tasks: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for item in islice(draw(rng, "train", tasks), count):
        yield {
            "task": item.task,
            "language": item.language,
            "prompt": item.prompt,
            "chosen": item.reply,
            "rejected": rng.choice(item.flawed),
        }


def _questions(rng: Random, split: Split, count: int) -> Iterator[dict[str, Any]]:
    for item, number in zip(draw(rng, split), range(count), strict=False):
        yield {
            "id": f"{item.task}/{number}",
            "task": item.task,
            "language": item.language,
            "prompt": item.prompt,
            "rules": list(item.rules),
            "reference": item.reply,
        }


def _write(file: Path, rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Write a JSONL file whole or not at all; count its rows by task or source."""
    counts: Counter[str] = Counter()
    temporary = file.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            counts[f"{row.get('task') or row['source']}"] += 1
    temporary.replace(file)
    return dict(sorted(counts.items()))
