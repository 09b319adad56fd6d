"""How often a reward model prefers the better reply, by task and by kind of pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any

from evalsuite_train.rm.model import RewardModel
from evalsuite_train.rm.pairs import KINDS, Kind, Pair, PairStream


def validation_pairs(stream: PairStream, per_kind: int, seed: int) -> list[Pair]:
    """Up to ``per_kind`` different pairs of each task and kind, drawn from held-out prompts.

    Of every kind, also those that ``stream`` has no share of: what a model was not taught is what
    PPO finds out.
    """
    random = Random(f"{seed}/validation")
    counts: dict[tuple[str, Kind], set[Pair]] = defaultdict(set)
    for kind in [kind for kind in KINDS if kind != "on_policy" or stream.on_policy]:
        tasks = {p.task for p in (stream.on_policy if kind == "on_policy" else stream.labelled)}
        for _ in range(4 * per_kind * len(tasks)):
            pair = stream.pair(kind, random)
            if len(counts[pair.task, pair.kind]) < per_kind:
                counts[pair.task, pair.kind].add(pair)
    return sorted(
        (pair for pairs in counts.values() for pair in pairs),
        key=lambda p: (p.task, p.kind, p.prompt, p.chosen, p.rejected),
    )


def pair_accuracy(reward: RewardModel, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Accuracy by task and kind; a tie counts as wrong.

    Returns:
        ``tasks``: task → the mean over its kinds, each kind weighing the same, so that many easy
        pairs do not hide few hard ones; ``kinds``: task → kind → {accuracy, pairs}.
    """
    chosen = reward.raw_scores([(pair.prompt, pair.chosen) for pair in pairs])
    rejected = reward.raw_scores([(pair.prompt, pair.rejected) for pair in pairs])
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for pair, good, bad in zip(pairs, chosen, rejected, strict=True):
        right[pair.task][pair.kind].append(good > bad)
    kinds = {
        task: {
            kind: {"accuracy": round(sum(hits) / len(hits), 4), "pairs": len(hits)}
            for kind, hits in sorted(by_kind.items())
        }
        for task, by_kind in sorted(right.items())
    }
    tasks = {
        task: round(sum(entry["accuracy"] for entry in by_kind.values()) / len(by_kind), 4)
        for task, by_kind in kinds.items()
    }
    return {"tasks": tasks, "kinds": kinds}
