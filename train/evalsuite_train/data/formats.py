"""The formats of training data: which one a file is in, and what one of its rows means.

============  ===========================================================  =============
format        a row                                                        gives
============  ===========================================================  =============
csv-text      CSV with a column ``text``                                   a document
csv-pair      CSV with the columns ``input`` and ``target``                a conversation
instruction   JSON with ``instruction``, ``input`` and ``output``          a conversation
conversation  JSON with ``system`` and ``conversations[{from, value}]``    a conversation
json-text     JSON with ``text``                                           a document
lines         one document a line                                          a document
============  ===========================================================  =============

JSON rows stand one a line or in an array. Every file may be gzip-compressed.
"""

from __future__ import annotations

import csv
import difflib
import json
from pathlib import Path
from typing import Any, get_args

from evalsuite_train.data.lines import sniff
from evalsuite_train.data.record import Record, Speaker, Turn
from evalsuite_train.errors import BadData

COLUMNS: dict[str, tuple[str, ...]] = {
    "csv-text": ("text",),
    "csv-pair": ("input", "target"),
    "conversation": ("conversations",),
    "instruction": ("instruction", "output"),
    "json-text": ("text",),
    "lines": (),
}
SPEAKERS: dict[str, Speaker] = {
    **dict.fromkeys(("human", "user", "question", "人类", "用户"), "human"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "yayi", "chatgpt", "助手"), "assistant"),
}


class BadRow(ValueError):
    """One row that cannot be used; its text is a reason short enough to be counted."""


def detect(path: Path) -> str:
    """The format, from the file's content first and its name second.

    Raises:
        BadData: rows of JSON or CSV whose columns fit no format; names the nearest.
    """
    head = sniff(path)
    name = path.name.lower().removesuffix(".gz")
    first = head.lstrip()
    if (first.startswith(b"[") and first[1:].lstrip().startswith(b"{")) or first.startswith(b"{"):
        found = _json_columns(first)
        if found is not None:
            return _fitting(path, found, ("conversation", "instruction", "json-text"))
    header = csv_header(head.decode("utf-8", "replace"), name)
    if name.endswith((".csv", ".tsv")) or header == ["input", "target"]:
        return _fitting(path, header, ("csv-pair", "csv-text"))
    if name.endswith((".json", ".jsonl", ".ndjson")):
        raise BadData(
            "no JSON object among the first rows",
            where=f"{path}:1",
            hint="write one object a line, or name the format in the recipe: " + ", ".join(COLUMNS),
        )
    return "lines"


def csv_header(text: str, name: str) -> list[str]:
    """The cells of the first line, stripped."""
    line = text.split("\n", 1)[0].rstrip("\r")
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter(name)), [])]
    except csv.Error:
        return []


def delimiter(name: str) -> str:
    return "\t" if name.lower().removesuffix(".gz").endswith(".tsv") else ","


def _json_columns(head: bytes) -> list[str] | None:
    """The keys of the first object that can be read, of the first hundred starts of a line."""
    text = head.decode("utf-8", "ignore")
    decoder = json.JSONDecoder()
    position = text.find("{")
    for _ in range(100):
        if position < 0:
            return None
        try:
            value, _ = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            # The object is broken, or longer than what was read: its first keys still show.
            position = text.find("\n", position)
            position = text.find("{", position) if position >= 0 else -1
            continue
        if isinstance(value, dict):
            return list(value)
        return None
    return None


def _fitting(path: Path, columns: list[str], formats: tuple[str, ...]) -> str:
    for name in formats:
        if set(COLUMNS[name]) <= set(columns):
            return name
    known = sorted({column for name in formats for column in COLUMNS[name]})
    near = [m for c in columns for m in difflib.get_close_matches(c.lower(), known, 1, 0.6)]
    needed = " or ".join("+".join(COLUMNS[name]) for name in formats)
    raise BadData(
        f"the columns are {', '.join(columns)[:200] or 'none'}; none of the formats has these",
        where=f"{path}:1",
        hint=(f"did you mean {near[0]!r}? " if near else "") + f"expected {needed}",
    )


def record_of(kind: str, row: Any, source: str, where: str) -> Record:
    """One row in format ``kind`` as a record.

    Args:
        row: the line (``lines``), or the columns by name.

    Raises:
        BadRow: a missing column, a value of another type, an unknown or silent speaker.
    """
    if kind == "lines":
        return Record(source, where, text=row)
    if not isinstance(row, dict):
        raise BadRow(f"a {type(row).__name__} where an object is expected")
    label = row.get("label")
    record = Record(source, where, label=label if isinstance(label, str) else "")
    if kind in ("csv-text", "json-text"):
        record.text = _string(row, "text")
        return record
    record.task = _optional(row, "task")
    record.system = _optional(row, "system")
    if kind == "conversation":
        record.conversations = _turns(row, record)
        return record
    if kind == "csv-pair":
        asked, answered = _string(row, "input"), _string(row, "target")
    else:
        asked, answered = _string(row, "instruction"), _string(row, "output")
        more = _optional(row, "input")
        asked = f"{asked}\n{more}" if more.strip() else asked
    record.conversations = [Turn("human", asked), Turn("assistant", answered)]
    return record


def _turns(row: dict[str, Any], record: Record) -> list[Turn]:
    """The turns in order, human first, in alternation; a leading system turn becomes ``system``."""
    said = row.get("conversations")
    if not isinstance(said, list) or not said:
        raise BadRow("conversations is no list of turns")
    turns: list[Turn] = []
    for index, turn in enumerate(said):
        if not isinstance(turn, dict):
            raise BadRow("a turn is no object")
        speaker, value = _string(turn, "from").strip().lower(), _string(turn, "value")
        if speaker == "system" and index == 0:
            record.system = value
            continue
        if speaker not in SPEAKERS:
            near = difflib.get_close_matches(speaker, SPEAKERS, 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BadRow(f"unknown speaker {speaker[:20]!r}{hint}")
        turns.append(Turn(SPEAKERS[speaker], value))
    order = get_args(Speaker)
    if len(turns) % 2 or any(turn.speaker != order[i % 2] for i, turn in enumerate(turns)):
        raise BadRow("the turns are not human and assistant in alternation")
    if not turns:
        raise BadRow("a conversation without turns")
    return turns


def _string(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        raise BadRow(f"no {column!r}")
    if not isinstance(value, str):
        raise BadRow(f"{column!r} is no text")
    if not value.strip():
        raise BadRow(f"{column!r} is empty")
    return value


def _optional(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRow(f"{column!r} is no text")
    return value
