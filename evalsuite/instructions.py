"""What tasks of plain instructions share: a question is asked as it stands, and the reply is checked by rule.

Rows of ``questions.jsonl`` hold ``id``, ``language``, ``prompt``, ``reference`` and, where several
questions are about one thing, ``content``; a task asks for further columns of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from evalsuite.data import DataFolder
from evalsuite.request import Generate, Generated, Prompt, Request, Response, Sampling
from evalsuite.task import Outcome, Sample, Task

FILE = "questions.jsonl"


class Instruction(msgspec.Struct):
    """The columns that every row has."""

    id: str
    language: str
    prompt: str
    reference: str
    content: str = ""


class Instructions(Task):
    """A task whose samples hold ``prompt`` in their fields and a good reply as ``target``.

    Attributes:
        columns: further columns that a row must have; they go into the sample's fields.
        tag: the one of them that scores are broken down by, besides the language.
        sampling: how a reply is generated.
    """

    columns: ClassVar[tuple[str, ...]] = ()
    tag: ClassVar[str] = ""
    sampling: ClassVar[Sampling] = Sampling(max_tokens=64)

    @abstractmethod
    def check(self, sample: Sample, reply: str) -> Outcome:
        """Score one reply. Pure; the reply is untrusted text without blanks at its ends."""

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        name = data.path.name if data.path.is_file() else data.first(FILE)
        for number, row in data.jsonl(name, ("id", "prompt", "reference", *self.columns)):
            try:
                item = msgspec.convert(row, Instruction)
                fields = {column: row[column] for column in self.columns}
                self.check(_sample(item, fields, {}), item.reference)
            except (msgspec.ValidationError, KeyError, TypeError, ValueError) as fault:
                data.reject(name, number, str(fault))
                continue
            yield _sample(item, fields, {self.tag: str(row[self.tag])} if self.tag else {})

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        prefix = "".join(f"{shot.fields['prompt']}\n{shot.target}\n\n" for shot in shots)
        return Generate(Prompt(sample.fields["prompt"], prefix), self.sampling)

    def score(self, sample: Sample, response: Response) -> Outcome:
        text = response.text if isinstance(response, Generated) else ""
        return self.check(sample, text.strip())

    def gold(self, sample: Sample) -> Response:
        return Generated(sample.target)


def _sample(item: Instruction, fields: dict[str, Any], tags: dict[str, str]) -> Sample:
    return Sample(
        id=item.id,
        fields={"prompt": item.prompt, **fields},
        target=item.reference,
        tags={"language": item.language, **tags},
        cluster=item.content,
    )
