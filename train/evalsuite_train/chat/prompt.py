"""A conversation as token ids, in the checkpoint's own template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from evalsuite_train.templates import TEMPLATES, Unusable, encode_conversation


class Turn(NamedTuple):
    """A question and what was answered."""

    question: str
    answer: str


class TooLong(Exception):
    """The question alone leaves no room for a reply."""


class Prompter:
    """Turns conversations into ids: by the template in the checkpoint's folder, else by its card.

    Args:
        chat_template: the card's name of a built-in template; None is plain text.
    """

    def __init__(self, tokenizer: Any, chat_template: str | None) -> None:
        self._tokenizer = tokenizer
        self._own: str | None = tokenizer.chat_template
        names = {form.chat_template: name for name, form in TEMPLATES.items() if form.chat_template}
        self._template = names.get(chat_template or "", "plain")

    @property
    def name(self) -> str:
        """``checkpoint`` for a template of the folder's own, else a name of ``TEMPLATES``."""
        return "checkpoint" if self._own else self._template

    def ids(self, history: Sequence[Turn], question: str, room: int) -> list[int]:
        """At most ``room`` ids up to where the reply starts; the oldest turns are left out first.

        Raises:
            TooLong: the question does not fit even alone.
        """
        for first in range(len(history) + 1):
            ids = self._encode(history[first:], question, room)
            if ids is not None and len(ids) <= room:
                return ids
        raise TooLong

    def _encode(self, history: Sequence[Turn], question: str, room: int) -> list[int] | None:
        if self._own:
            return self._by_own(history, question)
        said = [(t.question, t.answer) for t in history]
        turns = [
            {"from": speaker, "value": value}
            for asked, answer in [*said, (question, "-")]
            for speaker, value in (("human", asked), ("assistant", answer))
        ]
        try:
            encoded = encode_conversation(
                self._tokenizer, {"conversations": turns}, self._template, max_length=room + 16
            )
        except Unusable:
            return None
        # The last span of learnt ids is the stand-in for the reply; without it the prompt is left.
        spans = [
            at for at, learn in enumerate(encoded.learnt) if learn and not encoded.learnt[at - 1]
        ]
        return encoded.ids[: spans[-1]] if len(spans) == len(history) + 1 else None

    def _by_own(self, history: Sequence[Turn], question: str) -> list[int]:
        messages = []
        for turn in history:
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": turn.answer})
        messages.append({"role": "user", "content": question})
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        # Where the template writes no control tokens itself, none in a question is one either.
        controls = ("bos_token", "eos_token", *self._tokenizer.all_special_tokens)
        plain = not any(name in str(self._own) for name in controls)
        ids = list(
            self._tokenizer(text, add_special_tokens=False, split_special_tokens=plain)["input_ids"]
        )
        lead = list(self._tokenizer("")["input_ids"])
        return ids if ids[: len(lead)] == lead else lead + ids
