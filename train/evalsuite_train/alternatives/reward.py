"""The reward that GRPO and RLOO learn from, which is that of PPO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalsuite_train.feedback.rows import Asked
from evalsuite_train.ppo.reward import Judge


class Reward:
    """The reward function that trl calls: PPO's judge, over the ids, which say what has an end."""

    def __init__(self, judge: Judge, asked: Sequence[Asked], tokenizer: Any) -> None:
        self.__name__ = "reward"
        self._judge, self._tokenizer = judge, tokenizer
        self._asked = {a.id: a for a in asked}

    def __call__(
        self, *, completion_ids: Sequence[Sequence[int]], id: Sequence[str], **_: Any
    ) -> list[float]:
        eos = self._tokenizer.eos_token_id
        finished = [bool(ids) and ids[-1] == eos for ids in completion_ids]
        texts = [
            str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()
            for ids in completion_ids
        ]
        worth = self._judge([self._asked[name] for name in id], texts, finished)
        return [one.total for one in worth]
