"""What one iteration asks, and what is kept of it: prompts in order, samples for the pool, a row for the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from evalsuite_train.experience import Experience
from evalsuite_train.feedback.rows import Asked
from evalsuite_train.generation import Reply
from evalsuite_train.ppo.reward import Worth


def portion(asked: Sequence[Asked], iteration: int, size: int, seed: int) -> list[Asked]:
    """The prompts of an iteration: the file in a new order each time it has been gone through."""
    chosen: list[Asked] = []
    for place in range(iteration * size, (iteration + 1) * size):
        epoch, index = divmod(place, len(asked))
        if not chosen or index == 0:
            order = list(range(len(asked)))
            Random(f"{seed}/prompts/{epoch}").shuffle(order)
        chosen.append(asked[order[index]])
    return chosen


def experiences(
    iteration: int,
    asked: Sequence[Asked],
    texts: Sequence[str],
    replies: Sequence[Reply],
    worths: Sequence[Worth],
    kls: Sequence[float],
) -> list[Experience]:
    """The samples of an iteration as the pool keeps them."""
    return [
        Experience(
            prompt_id=a.id,
            task=a.task,
            reply=text,
            reward=round(worth.total, 4),
            kl=round(kl, 4),
            iteration=iteration,
            finished=reply.finished,
            rm=None if worth.rm is None else round(worth.rm, 4),
            rules=worth.rules,
            vetoed=worth.vetoed,
            gold=worth.gold if a.rules else None,
        )
        for a, text, reply, worth, kl in zip(asked, texts, replies, worths, kls, strict=True)
    ]


def summary(samples: Sequence[Experience]) -> dict[str, Any]:
    """The row of the log: means over an iteration's samples, None where there is nothing."""
    return {
        "iteration": samples[0].iteration,
        "reward": _mean(s.reward for s in samples),
        "rm": _mean(s.rm for s in samples),
        "rules": _mean(s.rules for s in samples),
        "gold": _mean(s.gold for s in samples),
        "kl": _mean(s.kl for s in samples),
        "truncated": _mean(not s.finished for s in samples),
        "vetoed": _mean(s.vetoed for s in samples),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = [float(value) for value in values if value is not None]
    return round(sum(numbers) / len(numbers), 4) if numbers else None
