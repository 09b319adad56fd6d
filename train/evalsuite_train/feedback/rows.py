"""JSONL files of prompts, conversations and texts, checked row by row."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from evalsuite_train.data.lines import TOO_LONG, lines_of, opened
from evalsuite_train.errors import BadData
from evalsuite_train.files import write_whole
from evalsuite_train.rules import Rule, read_rules


class Asked(msgspec.Struct, frozen=True):
    """One prompt that replies are sampled for (a line of ``prompts.jsonl``).

    Attributes:
        prompt: the plain question, without template.
        rules: what its replies are judged by; empty where only a reward model judges.
        where: ``file:line``, for messages.
    """

    id: str
    prompt: str
    task: str = ""
    rules: tuple[Rule, ...] = ()
    reference: str = ""
    where: str = ""


def read_prompts(file: Path) -> list[Asked]:
    """The prompts of an RL data file.

    Raises:
        BadData: no such file, no rows, a malformed row, a rule that does not exist.
    """
    rows: list[Asked] = []
    seen: set[str] = set()
    for where, row in _rows(file):
        rules = row.get("rules") or ()
        if not isinstance(rules, list | tuple):
            raise BadData("'rules' is no list of rules", where=where)
        checked = read_rules(rules, where=where) if rules else ()
        try:
            asked = msgspec.convert({**row, "rules": (), "where": where}, Asked)
        except msgspec.ValidationError as fault:
            raise BadData(str(fault), where=where) from None
        if not asked.prompt.strip():
            raise BadData("the prompt is empty", where=where)
        if asked.id in seen:
            raise BadData(f"the id {asked.id!r} stands twice", where=where)
        seen.add(asked.id)
        rows.append(msgspec.structs.replace(asked, rules=checked))
    return rows


def validation_prompts(file: Path, tasks: Iterable[str], each: int) -> list[Asked]:
    """The first ``each`` prompts of each task that have rules: without them there is no gold score.

    Raises:
        BadData: none has; or as in :func:`read_prompts`.
    """
    counts, kept = dict.fromkeys(tasks, 0), []
    for asked in read_prompts(file):
        if asked.rules and counts.get(asked.task, each) < each:
            counts[asked.task] += 1
            kept.append(asked)
    if not kept:
        raise BadData(
            "no validation prompt of these tasks has rules",
            where=str(file),
            hint="without rules there is no gold score; give some, or set guards: false",
        )
    return kept


def read_texts(file: Path, most: int) -> list[str]:
    """The ``text`` of the first ``most`` rows of a PT file; :class:`BadData` as in :func:`read_prompts`."""
    texts = []
    for where, row in itertools.islice(_rows(file), most):
        if not isinstance(row.get("text"), str) or not row["text"].strip():
            raise BadData("no 'text', or an empty one", where=where)
        texts.append(row["text"])
    return texts


def write_jsonl(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a file of rows as a whole: an older one stands until the new one is complete."""
    write_whole(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    with opened(file) as stream:
        for number, line in lines_of(stream):
            where = f"{file}:{number}"
            if line is None:
                raise BadData(TOO_LONG, where=where, hint="one JSON object a line")
            yield where, _row(line, where)


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        # Half of a surrogate pair can be read, but no tokenizer or file takes it.
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadData("a lone surrogate", where=where, hint="correct the row") from None
    except (ValueError, RecursionError):
        raise BadData("not JSON", where=where, hint="one JSON object a line") from None
    if not isinstance(row, dict):
        raise BadData("not a JSON object", where=where)
    return row
