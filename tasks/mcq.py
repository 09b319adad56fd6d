"""Multiple choice over your own questions: one CSV or JSONL file, or a folder with examples too.

A row holds ``question``, two to ten options and ``answer``, and may hold ``id`` and ``subject``.
Options are the columns A, B, C, … of a CSV file, or a list ``options`` in JSONL. The answer is a
letter, the option's own text, or its number from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from evalsuite.data import DataFolder
from evalsuite.metrics.choice import LETTERS
from evalsuite.metrics.metric import Metric
from evalsuite.multiple_choice import MultipleChoice, Wording
from evalsuite.request import Sampling
from evalsuite.task import DataSource, Sample, TaskMeta, Variant

_ZH = "题目：{question}\n{options}\n答案是："
_EN = "Question: {question}\n{options}\nAnswer:"


class OwnQuestions(MultipleChoice):
    meta = TaskMeta(
        name="mcq",
        title="Own multiple choice",
        description="Multiple choice over a CSV or JSONL file of your own, 2 to 10 options",
        languages=("zh", "en"),
        domain="knowledge",
        licence="Apache-2.0",
        citation="the sample set is evalsuite's own",
        source=DataSource(
            layout="a CSV file with the columns question, A, B, … and answer, or a JSONL file with "
            "question, options and answer; or a folder with questions.csv or questions.jsonl, and "
            "dev.csv or dev.jsonl for few-shot examples",
            url="tasks/README.md",
        ),
        main_metric="accuracy",
        version=1,
        sample_data="samples/mcq",
    )
    variants = (
        Variant("zh", "Chinese wording"),
        Variant("en", "English wording"),
        Variant("generate", "the model writes its answer and the letter is read out of it"),
    )
    metrics = (Metric("accuracy"),)
    wordings: ClassVar[dict[str, Wording]] = {
        "zh": Wording(question=_ZH),
        "en": Wording(question=_EN, delimiter=" "),
        "generate": Wording(question=_ZH, sampling=Sampling(max_tokens=256, stop=("题目：",))),
    }

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        if data.path.is_file():
            return _read(data, data.path.name, "")
        return _read(data, data.first("questions.jsonl", "questions.csv"), "")

    def examples(self, data: DataFolder) -> Iterator[Sample]:
        if data.path.is_file() or not (found := data.glob("dev.jsonl") + data.glob("dev.csv")):
            return iter(())
        return _read(data, found[0], "dev/")


def _read(data: DataFolder, name: str, id_prefix: str) -> Iterator[Sample]:
    seen: set[str] = set()
    for number, row in _rows(data, name):
        try:
            question, options, place = _parse(row)
            own_id = _text(row.get("id")) or f"{number}"
            subject = _text(row.get("subject"))
            if own_id in seen:
                raise ValueError(f"the id {own_id!r} is used twice")
        except ValueError as fault:
            data.reject(name, number, str(fault))
            continue
        seen.add(own_id)
        yield Sample(
            id=id_prefix + own_id,
            fields={"question": question, "options": options},
            target=LETTERS[place],
            tags={"subject": subject} if subject else {},
        )


def _rows(data: DataFolder, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    if not name.lower().endswith(".csv"):
        yield from data.jsonl(name, ("question", "options", "answer"))
        return
    header = data.header(name)
    letters = [letter for letter in LETTERS if letter.lower() in header]
    extra = [column for column in ("id", "subject") if column in header]
    for number, row in data.csv(name, ("question", *letters, "answer", *extra)):
        cells = [row[letter] for letter in letters]
        while cells and not cells[-1].strip():
            cells.pop()
        yield number, {**row, "options": cells}


def _parse(row: dict[str, Any]) -> tuple[str, list[str], int]:
    """Question, options and the answer's place; raises ValueError with the reason."""
    question, options = _text(row["question"]), row["options"]
    if not question.strip():
        raise ValueError("the question is empty")
    if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
        raise ValueError(f"it needs a list of 2 to {len(LETTERS)} options")
    texts = [_text(option) for option in options]
    if not all(text.strip() for text in texts):
        raise ValueError("an option is empty")
    return question, texts, _place(row["answer"], texts)


def _place(answer: object, options: list[str]) -> int:
    """Which option the answer names, as a letter, a text or a number from 0; never a guess."""
    if isinstance(answer, int) and not isinstance(answer, bool):
        places = {answer} & set(range(len(options)))
    else:
        text = _text(answer).strip()
        places = {place for place, option in enumerate(options) if option.strip() == text}
        if len(text) == 1 and (letter := text.upper()) in LETTERS[: len(options)]:
            places.add(LETTERS.index(letter))
        if not places and text.isascii() and text.isdigit() and len(text) < 3:
            places = {int(text)} & set(range(len(options)))
    if len(places) != 1:
        reason = "names more than one option" if places else "names no option"
        raise ValueError(f"the answer {str(answer)[:40]!r} {reason}")
    return places.pop()


def _text(value: object) -> str:
    """A text or a number as text; empty for null; anything else is refused."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"a text is due where {type(value).__name__} stands")


TASK = OwnQuestions()
