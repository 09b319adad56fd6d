"""Batches of whole samples, packed into rows without attention from one sample to another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evalsuite_train.errors import BadRecipe
from evalsuite_train.sft.samples import Sample
from evalsuite_train.trainer import IGNORED, Batch

ROW = 256
"""Row length that a batch is packed to, unless a sample is longer."""

_LARGEST_WEIGHT = 1e6


class Packed(NamedTuple):
    """A batch, and which of its samples each position belongs to (rows, length); -1 is padding."""

    batch: Batch
    owner: Tensor


def pack(samples: Sequence[Sample], row: int = ROW, pad: int = 0) -> Packed:
    """Lay samples side by side in as few rows as first-fit finds, longest first.

    Positions begin at 0 with every sample, where transformers' models begin a new attention block;
    the padding at a row's end is a block of its own. So a sample is computed as if it were alone.
    """
    lengths = [len(sample.ids) - 1 for sample in samples]
    width = max(row, *lengths)
    rows: list[list[int]] = []
    free: list[int] = []
    for index in sorted(range(len(samples)), key=lambda i: -lengths[i]):
        place = next((r for r, room in enumerate(free) if room >= lengths[index]), len(rows))
        if place == len(rows):
            rows.append([])
            free.append(width)
        rows[place].append(index)
        free[place] -= lengths[index]
    used = width - min(free)
    inputs = np.full((len(rows), used), pad, np.int64)
    targets = np.full((len(rows), used), IGNORED, np.int64)
    owner = np.full((len(rows), used), -1, np.int64)
    positions = np.empty((len(rows), used), np.int64)
    for number, members in enumerate(rows):
        at = 0
        for index in members:
            ids, learnt, end = samples[index].ids, samples[index].learnt, at + lengths[index]
            inputs[number, at:end] = ids[:-1]
            targets[number, at:end] = np.where(learnt[1:], ids[1:], IGNORED)
            owner[number, at:end] = index
            positions[number, at:end] = np.arange(end - at)
            at = end
        positions[number, at:] = np.arange(used - at)
    arrays = (torch.from_numpy(array) for array in (inputs, targets, positions))
    return Packed(Batch(*arrays), torch.from_numpy(owner))


class Mixture:
    """An endless order of samples in which every task keeps its share.

    An epoch has as many places as there are samples. A task's share of it is its number of samples
    times its weight; each task is gone through completely before one of its samples comes again.

    Args:
        tasks: the task of each sample.
        weights: task → how often its samples come, 1 as they stand in the data, 0 never.

    Raises:
        BadRecipe: a weight for a task that is not in the data, or nothing left.
    """

    def __init__(self, tasks: Sequence[str], weights: Mapping[str, float], seed: int) -> None:
        self._seed = seed
        self._members = {t: np.flatnonzero(np.array(tasks) == t) for t in sorted(set(tasks))}
        for task, weight in weights.items():
            if task not in self._members or not 0 <= weight <= _LARGEST_WEIGHT:
                known = ", ".join(self._members)
                raise BadRecipe(
                    f"a weight of {weight} for task {task!r}",
                    hint=f"weights are from 0 to {_LARGEST_WEIGHT:g}; tasks: {known}",
                )
        shares = {t: len(m) * weights.get(t, 1.0) for t, m in self._members.items()}
        if not sum(shares.values()) > 0:
            raise BadRecipe("every task has the weight 0", hint="give at least one task a weight")
        self.size = len(tasks)
        self.quota = _quota(shares, self.size)

    def epoch(self, number: int) -> NDArray[np.int64]:
        """The samples of one epoch, in order; int64, shape (samples,)."""
        chosen = [
            self._stretch(t, number * q, (number + 1) * q) for t, q in self.quota.items() if q
        ]
        order = np.concatenate(chosen)
        return np.asarray(np.random.default_rng([self._seed, number]).permutation(order))

    def _stretch(self, task: str, start: int, end: int) -> NDArray[np.int64]:
        """Places ``start`` to ``end`` of the task's own endless order of permutations."""
        members = self._members[task]
        own = list(self._members).index(task)
        rounds = [
            np.random.default_rng([self._seed, own, turn, 1]).permutation(members)
            for turn in range(start // len(members), (end - 1) // len(members) + 1)
        ]
        first = start // len(members) * len(members)
        return np.concatenate(rounds)[start - first : end - first]


def stream(
    samples: Sequence[Sample], mixture: Mixture, batch: int, *, row: int = ROW, pad: int = 0
) -> Callable[[int], Iterator[Batch]]:
    """``batches(n)``: the endless stream of batches of ``batch`` samples from the ``n``-th on."""

    def batches(start: int) -> Iterator[Batch]:
        epoch, order = -1, np.empty(0, np.int64)
        for number in itertools.count(start):
            chosen = []
            for place in range(number * batch, (number + 1) * batch):
                if place // mixture.size != epoch:
                    epoch = place // mixture.size
                    order = mixture.epoch(epoch)
                chosen.append(samples[order[place % mixture.size]])
            yield pack(chosen, row, pad).batch

    return batches


def _quota(shares: Mapping[str, float], places: int) -> dict[str, int]:
    """Whole places in proportion to ``shares``, by largest remainder."""
    total = sum(shares.values())
    exact = {task: places * share / total for task, share in shares.items()}
    quota = {task: int(value) for task, value in exact.items()}
    by_rest = sorted(exact, key=lambda task: quota[task] - exact[task])
    for task in by_rest[: places - sum(quota.values())]:
        quota[task] += 1
    return quota
