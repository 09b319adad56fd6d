"""What maths word problems share: a reasoned answer is generated, and its number is read out."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from evalsuite.data import DataFolder
from evalsuite.metrics.math import equal, find_answer, read_answer
from evalsuite.metrics.metric import Metric
from evalsuite.request import Generate, Generated, Prompt, Request, Response, Sampling
from evalsuite.task import Outcome, Sample, Task


class WordProblems(Task):
    """A task whose samples hold ``question`` in their fields and a number as ``target``.

    A subclass reads the data, and says how a question is asked and solved.

    Attributes:
        declared: the format in which the answer is due; group 1 begins at the number.
        sampling: how the answer is generated.
    """

    declared: ClassVar[re.Pattern[str]]
    sampling: ClassVar[Sampling]

    @abstractmethod
    def ask(self, sample: Sample) -> str:
        """The question's text up to where its answer begins."""

    @abstractmethod
    def solve(self, sample: Sample) -> str:
        """The worked answer, as it stands right after :meth:`ask`."""

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        prefix = "".join(f"{self.ask(shot)}{self.solve(shot)}\n\n" for shot in shots)
        return Generate(Prompt(text=self.ask(sample), prefix=prefix), self.sampling)

    def score(self, sample: Sample, response: Response) -> Outcome:
        """Strict and lenient accuracy, and whether either found an answer, each 0 or 1.

        The lenient answer is never held against a right strict one: what the declared format
        gives stands, even where more text follows that reads differently.
        """
        if not isinstance(response, Generated):
            raise TypeError(f"a generated text is due, not {type(response).__name__}")
        reference = read_answer(sample.target)
        if reference is None:
            raise ValueError(f"the reference {sample.target!r} is no number")
        question = sample.fields["question"]
        strict, lenient = find_answer(response.text, self.declared)
        strict_right = equal(strict, reference, question)
        right = strict_right or equal(lenient, reference, question)
        answer = strict if strict_right else lenient
        return Outcome(
            scores={
                "accuracy": float(right),
                "accuracy_strict": float(strict_right),
                "extracted": float(answer is not None),
                "extracted_strict": float(strict is not None),
            },
            answer=None if answer is None else answer.text,
        )

    def gold(self, sample: Sample) -> Response:
        return Generated(self.solve(sample))

    def solved_rows(
        self, data: DataFolder, name: str, required: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows of solved examples: the user's own, or else those that ship with the task.

        For data sets that publish no examples. The shipped file's checksum goes beside those of
        the data, so that two runs with different examples never look alike.
        """
        if data.has(name):
            yield from data.jsonl(name, required)
            return
        shipped = DataFolder(self.folder / self.meta.sample_data, layout=data.layout)
        rows = list(shipped.jsonl(name, required))
        data.sha256[f"shipped/{name}"] = shipped.sha256[name]
        yield from rows


def word_problem_metrics(macro_over: str = "") -> tuple[Metric, ...]:
    """Lenient accuracy first, then the strict one, and how often each found an answer."""
    names = ("accuracy", "accuracy_strict", "extracted", "extracted_strict")
    return tuple(Metric(name, macro_over=macro_over) for name in names)


def read_target(data: DataFolder, name: str, number: int, answer: Any) -> str | None:
    """A row's reference answer as text; None, after refusing the row, if it is no number."""
    text = str(answer).strip()
    if isinstance(answer, str | int | float) and not isinstance(answer, bool) and read_answer(text):
        return text
    data.reject(name, number, f"the answer {text[:40]!r} is no number")
    return None
