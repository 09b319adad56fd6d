"""Keep the evaluation items out of the training data."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

SAMPLES = Path(__file__).resolve().parent.parent / "tasks" / "samples"
NOT_QUESTIONS = {
    "id",
    "answer",
    "answers",
    "subject",
    "category",
    "options",
    "choices",
    "explanation",
    "label",
    "labels",
    "entities",
    "grade",
    "A",
    "B",
    "C",
    "D",
    "E",
    "",
    "domain",
    "source",
    "type",
    "difficulty",
}
SHORTEST = 6


def bare(text: str) -> str:
    """Drop everything but letters, digits and signs of arithmetic."""
    return re.sub(r"[^\w+\-*/×÷=]", "", text).lower()


def _rows(path: Path) -> Iterator[Mapping[str, object]]:
    if path.suffix == ".jsonl":
        yield from (
            json.loads(line)
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.strip()
        )
    elif path.suffix == ".json":
        data = json.loads(path.read_text(encoding="utf-8"))
        yield from (
            row for row in (data if isinstance(data, list) else [data]) if isinstance(row, dict)
        )
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)
    elif path.suffix == ".tsv":
        yield from (
            {"question": line.split("\t")[0]}
            for line in path.read_text(encoding="utf-8").splitlines()
        )
    elif path.suffix in {".txt", ".en", ".zh"}:
        yield from ({"question": line} for line in path.read_text(encoding="utf-8").splitlines())


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in NOT_QUESTIONS:
                yield from _strings(item)


@cache
def evaluation_texts(samples: Path = SAMPLES) -> tuple[str, ...]:
    """Return the question texts of every evaluation item, without punctuation."""
    found: set[str] = set()
    for path in sorted(samples.rglob("*")):
        if path.is_file():
            for row in _rows(path):
                found |= {bare(text) for text in _strings(row)}
    return tuple(sorted(text for text in found if len(text) >= SHORTEST))


def overlaps(text: str, banned: tuple[str, ...]) -> bool:
    """Whether a training text contains an evaluation text."""
    stripped = bare(text)
    return any(item in stripped for item in banned)
