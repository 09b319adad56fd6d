"""The samples of supervised fine-tuning: encoded conversations, and what was dropped and why."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from evalsuite_train.data.reader import Reader
from evalsuite_train.data.record import Record
from evalsuite_train.errors import BadData
from evalsuite_train.files import write_whole
from evalsuite_train.templates import TEMPLATES, Unusable, encoder

NO_TASK = "all"
"""The task of rows that name none."""


class Sample(NamedTuple):
    """One encoded conversation.

    Attributes:
        where: ``file:line``.
        ids: int32, shape (tokens,).
        learnt: which of them are learnt, bool, same shape.
    """

    task: str
    where: str
    ids: NDArray[np.int32]
    learnt: NDArray[np.bool_]


class Ledger(msgspec.Struct):
    """What became of the rows: ``rows == kept + the sum of dropped``.

    Attributes:
        dropped: reason → rows.
        examples: reason → the first few, as ``file:line``.
        turns_cut: turns left out of kept conversations because they did not fit.
        kept: task → samples; tokens and learnt count their tokens.
    """

    rows: int = 0
    kept: dict[str, int] = {}
    dropped: dict[str, int] = {}
    examples: dict[str, list[str]] = {}
    turns_cut: int = 0
    tokens: int = 0
    learnt: int = 0

    def drop(self, reason: str, where: str) -> None:
        """Count one row that is left out."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < 5:
            shown.append(where)

    def keep(self, sample: Sample, turns_cut: int) -> None:
        """Count one sample."""
        self.kept[sample.task] = self.kept.get(sample.task, 0) + 1
        self.tokens += len(sample.ids)
        self.learnt += int(sample.learnt.sum())
        self.turns_cut += turns_cut

    def summary(self) -> str:
        """One line for the screen."""
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        kept = sum(self.kept.values())
        return f"data: {kept} of {self.rows} rows; dropped: {dropped or 'none'}; {self.learnt} tokens learnt"

    def write(self, file: Path) -> None:
        """Write it as JSON."""
        text = json.dumps(msgspec.to_builtins(self), indent=2, ensure_ascii=False)
        write_whole(file, text + "\n")


def read_samples(
    file: Path, tokenizer: Any, template: str, *, max_length: int, bad_share: float = 0.1
) -> tuple[list[Sample], Ledger]:
    """Read a file in any format of :mod:`evalsuite_train.data` and encode its conversations.

    Rows of a CSV column ``text`` hold whole dialogues written in the template.

    Raises:
        BadData: an unreadable file, too many bad rows, or nothing left to learn from.
        BadRecipe: the template does not fit the tokenizer.
    """
    form = encoder(tokenizer, template)
    ledger, samples = Ledger(), []
    reader = Reader(file, bad_share=bad_share)
    for record in reader:
        try:
            conversation = as_conversation(record, template, tokenizer.eos_token)
            ids, learnt = form.conversation(conversation, max_length)
        except Unusable as fault:
            ledger.drop(fault.reason, record.where)
            continue
        task = record.task or NO_TASK
        sample = Sample(task, record.where, np.array(ids, np.int32), np.array(learnt))
        turns = len(conversation["conversations"]) // 2
        kept = int((sample.learnt & (sample.ids == form.end)).sum())
        ledger.keep(sample, turns - kept)
        samples.append(sample)
    for reason, count in reader.bad.items():
        ledger.dropped[reason] = ledger.dropped.get(reason, 0) + count
        ledger.examples.setdefault(reason, reader.examples[reason])
    ledger.rows = reader.rows
    if not samples:
        reason, count = Counter(ledger.dropped).most_common(1)[0]
        raise BadData(
            f"none of {ledger.rows} rows can be learnt from, most because: {reason} "
            f"({count}, first at {ledger.examples[reason][0]})",
            where=str(file),
            hint="check max_length and the template",
        )
    return samples, ledger


def as_conversation(record: Record, template: str, eos: str) -> dict[str, Any]:
    """A record as the template module reads it; a whole dialogue in one text is taken apart.

    Raises:
        Unusable: a text that is not written in the template.
    """
    if record.conversations:
        return {"system": record.system, "conversations": msgspec.to_builtins(record.conversations)}
    found = list(_dialogue(template, eos).finditer(record.text))
    rest = _dialogue(template, eos).sub("", record.text).strip()
    if not found or rest:
        raise Unusable(
            "not in the template", f"template {template!r}: {(rest or record.text)[:40]!r}"
        )
    said = [
        {"from": speaker, "value": match[speaker].strip()}
        for match in found
        for speaker in ("human", "assistant")
    ]
    return {"conversations": said}


def _dialogue(template: str, eos: str) -> re.Pattern[str]:
    """One question and its reply, as the template writes them."""
    form = TEMPLATES[template]
    before, _, after = form.human.partition("{}")
    end = re.escape(form.end or eos)
    reply = f"{re.escape(form.opening.strip())}(?P<assistant>.*?)(?:{end}|\\Z)"
    # The blank after the last colon may have been stripped from a row.
    question = f"{re.escape(before.strip())}(?P<human>.*?){re.escape(after.strip())}"
    return re.compile(rf"\s*{question}{reply}\s*", re.DOTALL)


def digest(samples: list[Sample]) -> str:
    """A sha256 over tasks, ids and masks, which names the data in saved states."""
    total = hashlib.sha256()
    for sample in samples:
        total.update(f"{sample.task}\0{len(sample.ids)}\0".encode())
        total.update(sample.ids.tobytes())
        total.update(sample.learnt.tobytes())
    return total.hexdigest()
