"""Answers from a file instead of a model: to score what another system wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.data import DataFolder
from evalsuite.engines.base import Engine, Prepared
from evalsuite.errors import BadRow, DataMissing
from evalsuite.metrics.choice import LETTERS, extract_letter
from evalsuite.record import digest
from evalsuite.request import (
    Choose,
    Chosen,
    Failure,
    Generate,
    Generated,
    Request,
    Response,
    most_likely,
)

_LAYOUT = 'a .jsonl file of {"id": …, "output": …}, or a text file of one answer a line'


_HUGE = 1e300


class Answer(msgspec.Struct, frozen=True):
    """One answer of the file."""

    output: str
    logprobs: tuple[float, ...] = ()


class ReplayEngine(Engine):
    """Looks answers up.

    Args:
        file: ``.jsonl`` with ``id`` (``task/sample``, or the sample's own id), ``output``, and for
            multiple choice optionally ``logprobs``, one number a choice. Any other extension: plain
            text, one line a sample, in the order of the first call of :meth:`prepare`, which must
            therefore hold all requests of the run.

    Attributes:
        context, parameters, template_name: a file has none of them.

    Raises:
        DataMissing: no such file.
        BadRow: a malformed row, or two with the same id.
    """

    name = "replay"
    takes_portions = False
    context: int | None = None
    parameters: int | None = None
    template_name = "none"

    def __init__(self, file: Path) -> None:
        data = DataFolder(file, layout=_LAYOUT)
        if not file.is_file():
            raise DataMissing("not a file", where=str(file), hint=f"expected {_LAYOUT}")
        self._file = file
        self._lines: list[str] | None = None
        self._answers: dict[str, Answer] = {}
        if file.suffix.lower() == ".jsonl":
            self._answers = _read_rows(data, file)
        else:
            self._lines = data.lines(file.name)
        self._sha256 = data.checksum()

    @property
    def description(self) -> dict[str, Any]:
        """The file, by name and content."""
        return {"name": self.name, "version": self._sha256, "file": self._file.name}

    def prepare(self, names: Sequence[str], requests: Sequence[Request]) -> list[Prepared]:
        """Find each answer; one that is not there comes back as the failure ``no_answer``.

        Raises:
            DataMissing: a text file has more or fewer lines than there are requests.
        """
        self._deal_lines(names)
        return [
            Prepared(
                name=name,
                request=request,
                key=digest([self._sha256, name]),
                failure=None if self._find(name) else _unanswered(name, self._file),
            )
            for name, request in zip(names, requests, strict=True)
        ]

    def answer(self, prepared: Sequence[Prepared]) -> Iterator[tuple[int, Response | Failure]]:
        """The answers, in order.

        Raises:
            BadRow: ``logprobs`` of another number than there are choices.
        """
        for index, item in enumerate(prepared):
            found = self._find(item.name)
            if item.failure is not None or found is None:
                yield index, item.failure or _unanswered(item.name, self._file)
            elif isinstance(item.request, Generate):
                yield index, Generated(_cut(found.output, item.request.sampling.stop))
            elif isinstance(item.request, Choose):
                yield index, self._choose(item.name, item.request.choices, found)
            else:
                message = "a file of answers holds no log-likelihood of a given text"
                yield index, Failure("no_answer", message)

    def _find(self, name: str) -> Answer | None:
        return self._answers.get(name) or self._answers.get(name.partition("/")[2])

    def _deal_lines(self, names: Sequence[str]) -> None:
        """Give each request its line, in the first call; later calls may ask for the same again."""
        if self._lines is None or (self._answers and all(n in self._answers for n in names)):
            return
        if self._answers or len(self._lines) != len(names):
            asked = len(names) + len(self._answers)
            raise DataMissing(
                f"{len(self._lines)} lines for {asked} samples",
                where=str(self._file),
                hint="one line a sample, in the order of the run; or .jsonl with ids",
            )
        lines = zip(names, self._lines, strict=True)
        self._answers = {name: Answer(line) for name, line in lines}

    def _choose(self, name: str, choices: tuple[str, ...], found: Answer) -> Chosen:
        if not found.logprobs:
            return Chosen(pick(found.output, choices))
        if len(found.logprobs) != len(choices):
            raise BadRow(
                f"{len(found.logprobs)} logprobs for {len(choices)} choices",
                where=f"{self._file}, {name}",
                hint="one number a choice, in the task's order",
            )
        return Chosen(most_likely(found.logprobs), found.logprobs)


def pick(output: str, choices: Sequence[str]) -> int | None:
    """Which choice an answer names: one of them word for word, or the letter that it states.

    Letters are only looked for when the choices are A, B, C, …; an answer that states two, or none,
    names no choice (see :func:`evalsuite.metrics.choice.extract_letter`).
    """
    texts = [choice.strip() for choice in choices]
    stripped = output.strip()
    if texts.count(stripped) == 1:
        return texts.index(stripped)
    letters = LETTERS[: len(texts)]
    if texts != list(letters):
        return None
    stated = extract_letter(output, letters)
    return None if stated is None else letters.index(stated)


def _read_rows(data: DataFolder, file: Path) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    first: dict[str, int] = {}
    for number, row in data.jsonl(file.name, ["id"]):
        where = f"{file}:{number}"
        name = str(row["id"])
        if name in answers:
            raise BadRow(
                f"a second answer for {json.dumps(name)}",
                where=where,
                hint=f"the first one is in row {first[name]}; keep one of them",
            )
        answers[name] = _read_answer(row, where)
        first[name] = number
    return answers


def _read_answer(row: dict[str, Any], where: str) -> Answer:
    output, logprobs = row.get("output", ""), row.get("logprobs", [])
    if not isinstance(output, str) or not isinstance(row["id"], (str, int)):
        raise BadRow("id and output must be texts", where=where, hint=f"expected {_LAYOUT}")
    if "output" not in row and not logprobs:
        raise BadRow("no output", where=where, hint=f"expected {_LAYOUT}")
    numbers = isinstance(logprobs, list) and all(
        isinstance(x, (int, float)) and not isinstance(x, bool) for x in logprobs
    )
    if not numbers or not all(-_HUGE < x < _HUGE for x in logprobs):
        raise BadRow("logprobs must be a list of finite numbers", where=where)
    return Answer(output, tuple(map(float, logprobs)))


def _unanswered(name: str, file: Path) -> Failure:
    return Failure("no_answer", f"{file.name} has no answer for {name!a}")


def _cut(output: str, stops: Sequence[str]) -> str:
    """The output up to the first stop string, as a model's would end there."""
    places = [output.find(stop) for stop in stops if stop and stop in output]
    return output[: min(places, default=len(output))]
