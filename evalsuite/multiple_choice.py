"""What multiple-choice tasks share: wordings as data, and one letter an answer."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import msgspec

from evalsuite.data import DataFolder
from evalsuite.errors import UnknownName
from evalsuite.metrics.choice import LETTERS, extract_letter
from evalsuite.metrics.metric import Metric
from evalsuite.request import (
    Choose,
    Chosen,
    Generate,
    Generated,
    Prompt,
    Request,
    Response,
    Sampling,
    Truncate,
)
from evalsuite.task import Outcome, Sample, Task, Variant


class Wording(msgspec.Struct, frozen=True, kw_only=True):
    """How one variant writes a question down.

    Attributes:
        instruction: what comes first, once; ``{subject}`` stands for the subject's name.
        question: one question, with ``{question}`` and ``{options}``, up to its answer.
        delimiter: between the question and its letter. It belongs to the answer, because many
            tokenizers have other tokens for ``" A"`` than for ``"A"``.
        strip: take white space off both ends of the question's text, as lm-eval's templates do.
        sampling: set for a variant that lets the model write; the letter is then read out of it.
    """

    question: str
    instruction: str = ""
    delimiter: str = ""
    strip: bool = False
    truncate: Truncate = "error"
    sampling: Sampling | None = None

    def ask(self, sample: Sample) -> str:
        """The question's text up to where its answer begins."""
        question, options = sample.fields["question"], sample.fields["options"]
        lines = (f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
        return self.question.format(
            question=question.strip() if self.strip else question, options="\n".join(lines)
        )

    def prefix(self, sample: Sample, shots: Sequence[Sample]) -> str:
        """The instruction and the solved examples, each followed by an empty line."""
        solved = (f"{self.ask(shot)}{self.delimiter}{shot.target}\n\n" for shot in shots)
        subject = sample.fields.get("subject", "")
        return self.instruction.format(subject=subject) + "".join(solved)


class MultipleChoice(Task):
    """A task whose samples hold ``question`` and ``options``, and a letter as ``target``.

    A subclass gives ``wordings``, one for each variant, and reads the data. The scorer takes both
    the engine's choice by log-likelihood and a written answer.
    """

    wordings: ClassVar[Mapping[str, Wording]]
    _latest: tuple[tuple[Sample, ...], object, str] = (), None, ""

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        wording = self.wordings[variant]
        prompt = Prompt(
            text=wording.ask(sample),
            prefix=self._prefix(wording, sample, shots),
            plain=wording.sampling is None,
            truncate=wording.truncate,
        )
        if wording.sampling is not None:
            return Generate(prompt, wording.sampling)
        return Choose(prompt, tuple(wording.delimiter + letter for letter in letters_of(sample)))

    def _prefix(self, wording: Wording, sample: Sample, shots: Sequence[Sample]) -> str:
        """The last prefix again, where it is for the same examples: neighbours mostly share it."""
        subject = sample.fields.get("subject", "")
        known, by, prefix = self._latest
        same = len(known) == len(shots) and all(map(operator.is_, known, shots))
        if not same or by != (wording, subject):
            prefix = wording.prefix(sample, shots)
            self._latest = tuple(shots), (wording, subject), prefix
        return prefix

    def score(self, sample: Sample, response: Response) -> Outcome:
        letter = _letter(response, letters_of(sample))
        return Outcome(scores={"accuracy": float(letter == sample.target)}, answer=letter)

    def gold(self, sample: Sample) -> Response:
        return Chosen(picked=LETTERS.index(sample.target))


class Subject(msgspec.Struct, frozen=True):
    """A subject of an exam: its Chinese name in prompts, and the tags of its questions."""

    name: str
    tags: dict[str, str]


class SubjectExam(MultipleChoice):
    """Multiple choice with one CSV file a subject and four options: CMMLU, C-Eval and their like.

    Each is asked as its authors do, as lm-eval does, and by letting the model write.

    Attributes:
        subjects: the subject's name in file names → the subject.
        questions, solved: files of questions and of examples, ``{subject}`` for the subject.
        columns: question, A, B, C, D and answer, as the header has them.
    """

    subjects: ClassVar[Mapping[str, Subject]]
    questions: ClassVar[str]
    solved: ClassVar[str]
    columns: ClassVar[tuple[str, str, str, str, str, str]]
    variants = (
        Variant("official", "the authors' prompt; mean over subjects", num_fewshot=5),
        Variant(
            "lm-eval",
            "lm-eval's prompt and choices; mean over questions",
            num_fewshot=5,
            main_metric="accuracy_micro",
        ),
        Variant("generate", "the model writes its answer and the letter is read out of it"),
    )
    metrics = (
        Metric("accuracy", macro_over="subject"),
        Metric("accuracy_micro", statistic="accuracy"),
    )

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        data.first(self.questions.format(subject="*"))
        return self._read(data, self.questions, "{subject}/{row}")

    def examples(self, data: DataFolder) -> Iterator[Sample]:
        return self._read(data, self.solved, "{subject}/dev/{row}")

    def example_group(self, sample: Sample) -> str:
        return sample.tags["subject"]

    def _read(self, data: DataFolder, files: str, sample_id: str) -> Iterator[Sample]:
        before, after = files.split("{subject}")
        for name in data.glob(files.format(subject="*")):
            key = name.removeprefix(before).removesuffix(after)
            if key not in self.subjects:
                raise UnknownName(
                    f"{self.meta.title} subject", key, self.subjects, where=str(data.root / name)
                )
            subject = self.subjects[key]
            for number, row in data.csv(name, self.columns):
                question, *options, answer = (row[column] for column in self.columns)
                if problem := _problem(question, options, answer.strip()):
                    data.reject(name, number, problem)
                    continue
                yield Sample(
                    id=sample_id.format(subject=key, row=number - 2),
                    fields={"question": question, "options": options, "subject": subject.name},
                    target=answer.strip(),
                    tags={"subject": key, **subject.tags},
                )


def letters_of(sample: Sample) -> str:
    """The letters that name this sample's options."""
    return LETTERS[: len(sample.fields["options"])]


def _letter(response: Response, letters: str) -> str | None:
    if isinstance(response, Generated):
        return extract_letter(response.text, letters)
    if isinstance(response, Chosen) and response.picked is not None:
        return letters[response.picked] if 0 <= response.picked < len(letters) else None
    return None


def _problem(question: str, options: Sequence[str], answer: str) -> str:
    if not question.strip():
        return "the question is empty"
    for letter, option in zip(LETTERS, options, strict=False):
        if not option.strip():
            return f"option {letter} is empty"
    if len(answer) != 1 or answer not in LETTERS[: len(options)]:
        return f"the answer is {answer!r} where one of {LETTERS[: len(options)]} is due"
    return ""
