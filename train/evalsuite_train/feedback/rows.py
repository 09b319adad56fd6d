"""JSONL files of prompts, conversations and texts, checked row by row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from evalsuite_train.errors import BadData
from evalsuite_train.rules import Rule, read_rules


class Asked(msgspec.Struct, frozen=True):
    """One prompt that replies are sampled for (a line of ``prompts.jsonl``).

    Attributes:
        prompt: the plain question, without template.
        rules: what its replies are judged by; empty where only a reward model judges.
    """

    id: str
    prompt: str
    task: str = ""
    rules: tuple[Rule, ...] = ()
    reference: str = ""


def read_prompts(file: Path) -> list[Asked]:
    """The prompts of an RL data file.

    Raises:
        BadData: no such file, no rows, a malformed row, a rule that does not exist.
    """
    rows: list[Asked] = []
    seen: set[str] = set()
    for where, row in _rows(file):
        rules = row.get("rules") or ()
        checked = read_rules(rules, where=where) if rules else ()
        try:
            asked = msgspec.convert({**row, "rules": ()}, Asked)
        except msgspec.ValidationError as fault:
            raise BadData(str(fault), where=where) from None
        if not asked.prompt.strip():
            raise BadData("the prompt is empty", where=where)
        if asked.id in seen:
            raise BadData(f"the id {asked.id!r} stands twice", where=where)
        seen.add(asked.id)
        rows.append(msgspec.structs.replace(asked, rules=checked))
    return rows


def read_texts(file: Path) -> list[str]:
    """The ``text`` of every row of a PT file; :class:`BadData` as in :func:`read_prompts`."""
    texts = []
    for where, row in _rows(file):
        if not isinstance(row.get("text"), str) or not row["text"].strip():
            raise BadData("no 'text', or an empty one", where=where)
        texts.append(row["text"])
    return texts


def write_jsonl(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a file of rows as a whole: an older one stands until the new one is complete."""
    temporary = file.with_name(file.name + ".new")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    temporary.replace(file)


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as fault:
        raise BadData(f"cannot be read: {fault.strerror}", where=str(file)) from None
    if not lines:
        raise BadData("the file is empty", where=str(file))
    for number, line in enumerate(lines, 1):
        where = f"{file}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise BadData("not JSON", where=where, hint="one JSON object a line") from None
        if not isinstance(row, dict):
            raise BadData("not a JSON object", where=where)
        yield where, row
