"""A conversation of a data file, read as questions and replies."""

from __future__ import annotations

from typing import Any

from evalsuite_train.errors import BadData

_HUMAN = ("human", "user")
_ASSISTANT = ("assistant", "gpt", "bot", "yayi")


class Unusable(BadData):
    """A conversation that cannot be trained on; ``reason`` is the line of the ledger it counts to."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def read_turns(conversation: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """The system message (or "") and the (question, reply) pairs of a conversation.

    A last question without a reply is left out.

    Raises:
        Unusable: no reply, an empty one or question, an unknown speaker, turns that do not alternate.
    """
    turns = conversation.get("conversations")
    if not isinstance(turns, list) or not all(
        isinstance(t, dict) and isinstance(t.get("value"), str) for t in turns
    ):
        raise Unusable("not a conversation", "conversations is a list of {from, value}")
    pairs: list[tuple[str, str]] = []
    system, question = conversation.get("system") or "", None
    for turn in turns:
        speaker, value = str(turn.get("from")).lower(), turn["value"]
        if speaker == "system" and not pairs and question is None:
            system = value
        elif speaker in _HUMAN and question is None:
            if not value.strip():
                raise Unusable("empty question", f"turn {len(pairs) + 1}")
            question = value
        elif speaker in _ASSISTANT and question is not None:
            if not value.strip():
                raise Unusable("empty reply", f"turn {len(pairs) + 1}")
            pairs.append((question, value))
            question = None
        elif speaker in (*_HUMAN, *_ASSISTANT, "system"):
            raise Unusable("turns out of order", f"{speaker} in turn {len(pairs) + 1}")
        else:
            raise Unusable("unknown speaker", f"{speaker!r}; known: human, assistant, system")
    if not pairs:
        raise Unusable("no reply", "there is nothing to learn")
    return str(system), pairs
