"""Held-out questions asked after every stage: rules on greedy replies, loss on the references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from evalsuite_train.errors import BadData
from evalsuite_train.feedback.rows import Asked, read_prompts
from evalsuite_train.generation import check_room, generate, reply_text
from evalsuite_train.rules import score
from evalsuite_train.sft.reply_loss import reply_loss
from evalsuite_train.sft.samples import NO_TASK, Sample
from evalsuite_train.templates import Unusable, encoder


class Result(msgspec.Struct, frozen=True):
    """One task.

    Attributes:
        accuracy: share of greedy replies that end and satisfy every rule (without rules: that
            equal the reference).
        score: mean share of the rules satisfied; 0 for a reply that does not end.
        loss: mean reply loss on the references, nats a token; None where there are none.
        next_token: next-token accuracy on the references, likewise.
    """

    items: int
    accuracy: float
    score: float
    loss: float | None
    next_token: float | None


class Examination:
    """The first ``items`` questions of every task in a file, encoded once.

    Raises:
        BadData: no such file, a malformed row, or no questions.
    """

    def __init__(
        self,
        file: Path,
        tokenizer: Any,
        template: str,
        *,
        items: int,
        max_length: int,
        max_new_tokens: int,
    ) -> None:
        self._tokenizer, self._form = tokenizer, encoder(tokenizer, template)
        self._max_new_tokens = max_new_tokens
        self._asked: dict[str, list[Asked]] = {}
        for asked in read_prompts(file):
            chosen = self._asked.setdefault(asked.task or NO_TASK, [])
            if len(chosen) < items:
                chosen.append(asked)
        if not self._asked:
            raise BadData("no questions", where=str(file))
        self._references = {
            task: [s for a in asked if (s := self._reference(a, max_length))]
            for task, asked in self._asked.items()
        }

    @property
    def tasks(self) -> list[str]:
        """The tasks, sorted."""
        return sorted(self._asked)

    def ask(self, model: Any) -> dict[str, Result]:
        """Question ``model`` and judge its replies; task → result."""
        results = {}
        for task in self.tasks:
            asked = self._asked[task]
            prompts = [self._form.prompt(a.prompt) for a in asked]
            for one, prompt in zip(asked, prompts, strict=True):
                check_room(model, prompt, self._max_new_tokens, where=one.where)
            replies = generate(
                model,
                prompts,
                max_new_tokens=self._max_new_tokens,
                temperature=0.0,
                eos=self._form.end,
                allowed=len(self._tokenizer),
            )
            judged = [
                _judge(reply_text(self._tokenizer, reply), a) if reply.finished else (0.0, 0.0)
                for reply, a in zip(replies, asked, strict=True)
            ]
            results[task] = self._result(model, task, judged)
        return results

    def _result(self, model: Any, task: str, judged: Sequence[tuple[float, float]]) -> Result:
        references = self._references[task]
        measured = reply_loss(model, references) if references else None
        return Result(
            items=len(judged),
            accuracy=float(np.mean([gold for gold, _ in judged])),
            score=float(np.mean([share for _, share in judged])),
            loss=float(measured.loss.mean()) if measured else None,
            next_token=measured.accuracy if measured else None,
        )

    def _reference(self, asked: Asked, max_length: int) -> Sample | None:
        turns = [
            {"from": "human", "value": asked.prompt},
            {"from": "assistant", "value": asked.reference},
        ]
        try:
            ids, learnt = self._form.conversation({"conversations": turns}, max_length)
        except Unusable:
            return None
        return Sample(asked.task, asked.id, np.array(ids, np.int32), np.array(learnt))


def _judge(reply: str, asked: Asked) -> tuple[float, float]:
    """1.0 if the reply is right, and the share of the rules it satisfies."""
    if not asked.rules:
        same = float(reply == asked.reference.strip())
        return same, same
    verdict = score(reply, asked.rules)
    return verdict.gold, verdict.score
