"""What a reply is worth: the reward model's score, the rules', a veto, and nothing for a truncated one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from evalsuite_train.feedback.rows import Asked
from evalsuite_train.rm.model import RewardModel
from evalsuite_train.rules import score


class Worth(NamedTuple):
    """The parts of one reply's reward.

    Attributes:
        total: what PPO gets at the reply's last token.
        rm: normalised score of the reward model; None where it did not judge.
        rules: graded score of the rules in [0, 1]; None for a prompt without rules.
        gold: 1 if all rules hold and the reply is finished, else 0; never trained on by itself.
    """

    total: float
    rm: float | None
    rules: float | None
    vetoed: bool
    gold: float


class Judge:
    """Rewards replies from their text.

    The order of worth is by construction: a truncated reply and a vetoed one lie below the lowest
    that any other can get, since the reward model's score is clipped and the rules' is in [0, 1].

    Args:
        rm: None leaves only the rules.
        rm_tasks: where the reward model judges; other tasks are judged by rules. None is everywhere.
        rm_clip: bound of the reward model's normalised score, both ways.
        penalty: how far a truncated or vetoed reply lies below the lowest other.
    """

    def __init__(
        self,
        rm: RewardModel | None,
        *,
        rm_weight: float,
        rules_weight: float,
        veto: bool,
        rm_clip: float,
        penalty: float,
        rm_tasks: frozenset[str] | None = None,
    ) -> None:
        self.rm, self.rm_weight, self.rules_weight = rm, rm_weight, rules_weight
        self.veto, self.rm_clip, self.rm_tasks = veto, rm_clip, rm_tasks
        lowest = -rm_clip * rm_weight if rm is not None else 0.0
        self.floor = lowest - penalty

    def __call__(
        self, asked: Sequence[Asked], replies: Sequence[str], finished: Sequence[bool]
    ) -> list[Worth]:
        """The worth of each reply; an empty one counts as truncated."""
        whole = [
            done and bool(reply.strip()) for done, reply in zip(finished, replies, strict=True)
        ]
        by_rm = iter(
            self._by_rm([(a, r) for a, r, w in zip(asked, replies, whole, strict=True) if w])
        )
        return [
            self._worth(a, reply, w, next(by_rm) if w else None)
            for a, reply, w in zip(asked, replies, whole, strict=True)
        ]

    def _by_rm(self, whole: list[tuple[Asked, str]]) -> list[float | None]:
        judged = [i for i, (asked, _) in enumerate(whole) if self._rm_judges(asked)]
        scores: list[float | None] = [None] * len(whole)
        if self.rm is not None and judged:
            found = self.rm.scores([(whole[i][0].prompt, whole[i][1]) for i in judged])
            for i, value in zip(judged, found, strict=True):
                scores[i] = value
        return scores

    def _rm_judges(self, asked: Asked) -> bool:
        return self.rm is not None and (self.rm_tasks is None or asked.task in self.rm_tasks)

    def _worth(self, asked: Asked, reply: str, whole: bool, rm: float | None) -> Worth:
        verdict = score(reply, asked.rules) if asked.rules else None
        rules = verdict.score if verdict else None
        vetoed = bool(verdict and verdict.vetoed)
        gold = verdict.gold if verdict and whole else 0.0
        if not whole or (self.veto and vetoed):
            return Worth(self.floor, rm, rules, vetoed, gold)
        total = self.rules_weight * (rules or 0.0)
        if rm is not None:
            total += self.rm_weight * max(-self.rm_clip, min(self.rm_clip, rm))
        return Worth(total, rm, rules, vetoed, gold)


def token_rewards(
    worth: Tensor, logprobs: Tensor, reference: Tensor, actions: Tensor, kl: float
) -> Tensor:
    """Rewards (B, R): at each token −kl·(log π − log π_ref), and the reply's worth at its last.

    The last action is EOS where there is one (Huang et al., details 10 and 13); a truncated reply
    gets its fixed low worth at its last token.

    Args:
        worth: (B,).
        kl: the coefficient, fixed for the whole run.
    """
    rewards = -kl * (logprobs - reference) * actions
    last = actions.sum(-1) - 1
    rewards[torch.arange(len(rewards), device=rewards.device), last] += worth.to(rewards)
    return rewards
