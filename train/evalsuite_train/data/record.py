"""One row of training text: a document, or a conversation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

Speaker = Literal["human", "assistant"]


class Turn(msgspec.Struct, frozen=True, rename={"speaker": "from"}):
    """What one side says."""

    speaker: Speaker
    value: str


class Record(msgspec.Struct, omit_defaults=True):
    """A document (``text``) or a conversation (``conversations``), with where it came from.

    Attributes:
        source: the name of the source in the recipe.
        where: ``file:line``, which is also its id in the ledger.
        language: ``zh``, ``en`` or ``other``.
        label: why it should be dropped, where a test corpus says so: ``duplicate``,
            ``near-duplicate``, ``boilerplate``, ``toxic``, ``gibberish``; ``good`` or empty if not.
        score: quality between 0 and 1, once it was scored.
        bucket: ``high``, ``middle`` or ``low``, once it was put into one.
    """

    source: str
    where: str
    language: str = ""
    text: str = ""
    system: str = ""
    task: str = ""
    conversations: list[Turn] = []
    label: str = ""
    score: float = -1.0
    bucket: str = ""

    @property
    def content(self) -> str:
        """All that is said, for counting and comparing."""
        if not self.conversations:
            return self.text
        return "\n".join(turn.value for turn in self.conversations)

    def published(self) -> dict[str, Any]:
        """The row as the later stages read it."""
        if not self.conversations:
            return {"text": self.text, "source": self.source, "language": self.language}
        row: dict[str, Any] = {"source": self.source, "language": self.language}
        if self.task:
            row["task"] = self.task
        if self.system:
            row["system"] = self.system
        row["conversations"] = msgspec.to_builtins(self.conversations)
        return row


class Dropped(msgspec.Struct, frozen=True):
    """What a step leaves out, and why in a word or two that can be counted."""

    record: Record
    reason: str


Outcome = Record | Dropped
"""What a step makes of one record; a step yields one outcome for each record it was given."""

Records = Iterable[Record]
