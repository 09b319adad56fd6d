"""Gold beside reward on held-out prompts, and the test whether the two have parted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from evalsuite_train.feedback.rows import Asked
from evalsuite_train.generation import generate, reply_text
from evalsuite_train.ppo.reward import Judge
from evalsuite_train.processes import ALONE, Processes
from evalsuite_train.templates import encode_prompt

FLIPS = 10_000


class Measured(msgspec.Struct, frozen=True):
    """One look at the validation prompts, by prompt: gold greedy and sampled, and the mean reward of both."""

    greedy: list[float]
    sampled: list[float]
    reward: list[float]

    @property
    def gold(self) -> list[float]:
        """Mean of greedy and sampled, by prompt."""
        return [(a + b) / 2 for a, b in zip(self.greedy, self.sampled, strict=True)]


class Alarm(msgspec.Struct, frozen=True):
    """Gold and reward have parted: for which task (``all``), by how much, how surely."""

    task: str
    reward: float
    gold: float
    reward_p: float
    gold_p: float

    def __str__(self) -> str:
        return (
            f"reward and gold have parted ({self.task}): reward {self.reward:+.3f} (p = {self.reward_p:.2g}), "
            f"gold {self.gold:+.3f} (p = {self.gold_p:.2g}) against the start"
        )


class Validation:
    """The validation prompts, asked the same way every time.

    Args:
        judge: as in training.
        seed: of the sampled replies; the same at every look, which pairs the looks more closely.
        processes: those that share the prompts.
    """

    def __init__(
        self,
        asked: Sequence[Asked],
        tokenizer: Any,
        judge: Judge,
        *,
        template: str,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        processes: Processes = ALONE,
    ) -> None:
        self.asked, self.tokenizer, self.judge = asked, tokenizer, judge
        self.prompts = [encode_prompt(tokenizer, a.prompt, template) for a in asked]
        self.max_new_tokens, self.temperature, self.seed = max_new_tokens, temperature, seed
        self.processes = processes

    def look(self, policy: Any) -> Measured:
        """Ask greedily and sampled, and judge both."""
        worths = []
        for temperature in (0.0, self.temperature):
            replies = generate(
                policy,
                self.prompts,
                max_new_tokens=self.max_new_tokens,
                temperature=temperature,
                seed=self.seed,
                eos=self.tokenizer.eos_token_id,
                allowed=len(self.tokenizer),
                processes=self.processes,
            )
            texts = [reply_text(self.tokenizer, reply) for reply in replies]
            worths.append(self.judge(self.asked, texts, [reply.finished for reply in replies]))
        greedy, sampled = worths
        return Measured(
            greedy=[worth.gold for worth in greedy],
            sampled=[worth.gold for worth in sampled],
            reward=[(a.total + b.total) / 2 for a, b in zip(greedy, sampled, strict=True)],
        )

    def summary(self, measured: Measured) -> dict[str, Any]:
        """Means over all prompts, and gold by task."""
        return {
            "reward": _mean(measured.reward),
            "gold_greedy": _mean(measured.greedy),
            "gold_sampled": _mean(measured.sampled),
            "gold": {
                task: _mean([measured.gold[i] for i in rows])
                for task, rows in self.groups().items()
                if task != "all"
            },
        }

    def groups(self) -> dict[str, list[int]]:
        """``all`` and each task → its rows."""
        groups: dict[str, list[int]] = {"all": list(range(len(self.asked)))}
        for row, asked in enumerate(self.asked):
            groups.setdefault(asked.task or "task", []).append(row)
        return groups

    def parted(self, start: Measured, now: Measured, alpha: float) -> Alarm | None:
        """Whether the reward rose while gold fell, paired by prompt against the start.

        Gold has fallen where a one-sided sign-flip test over the prompts of one task, or of all,
        has p < alpha / (number of these groups); the reward has risen where the same test on the
        rewards, of that group or of all, has p < alpha. Greedy and sampled count half each.
        """
        groups = self.groups()
        reward = np.array(now.reward) - np.array(start.reward)
        gold = np.array(now.gold) - np.array(start.gold)
        rise = {name: sign_flip_p(reward[rows]) for name, rows in groups.items()}
        for name, rows in groups.items():
            fall = sign_flip_p(-gold[rows])
            risen = name if rise[name] <= rise["all"] else "all"
            if fall < alpha / len(groups) and rise[risen] < alpha:
                return Alarm(
                    name,
                    float(reward[groups[risen]].mean()),
                    float(gold[rows].mean()),
                    rise[risen],
                    fall,
                )
        return None


def sign_flip_p(differences: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """P-value of a positive mean, one-sided: the paired permutation test with random signs.

    Under the null hypothesis each prompt's difference is as likely to be negative (Fisher 1935);
    (1 + flips at least as large) / (1 + flips) is never 0.
    """
    signs = (
        np.random.default_rng(0).integers(0, 2, (FLIPS, len(differences)), dtype=np.int8) * 2 - 1
    )
    flipped = signs @ differences
    return float((1 + (flipped >= differences.sum() - 1e-9).sum()) / (1 + FLIPS))


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)
