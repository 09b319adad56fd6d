"""What the policy must not unlearn: conversations of other tasks, learnt beside the reward.

The PPO-ptx of Ouyang et al. 2022 (arXiv 2203.02155, section 3.5), with SFT's conversations in the place of
pre-training text.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from evalsuite_train.errors import BadData
from evalsuite_train.loss import Batch, measure
from evalsuite_train.processes import ALONE, Processes
from evalsuite_train.sft.batches import pack
from evalsuite_train.sft.samples import Sample, read_samples
from evalsuite_train.sharding import inside


class Retained:
    """Conversations whose replies the policy is to keep likely.

    Args:
        batch: conversations of one update, of all processes together.
    """

    def __init__(
        self, samples: list[Sample], batch: int, seed: int, processes: Processes = ALONE
    ) -> None:
        self._samples, self._seed, self._processes = samples, seed, processes
        self._batch = max(batch, processes.size)

    @classmethod
    def read(
        cls,
        file: Path,
        tokenizer: Any,
        template: str,
        *,
        trained: Collection[str],
        max_length: int,
        batch: int,
        seed: int,
        processes: Processes,
    ) -> Retained:
        """The conversations in ``file`` of all tasks but those that are ``trained`` by reward.

        Raises:
            BadData: there are none; or as in :func:`evalsuite_train.sft.samples.read_samples`.
        """
        samples, _ = read_samples(file, tokenizer, template, max_length=max_length)
        others = [sample for sample in samples if sample.task not in trained]
        if not others:
            raise BadData(
                "no conversation of another task than those that are trained",
                where=str(file),
                hint="leave `retain` out, or name fewer `tasks`",
            )
        return cls(others, batch, seed, processes)

    def loss(self, policy: Any, number: int, autocast: torch.dtype | None) -> Tensor:
        """This process's part of the mean loss a reply token, in nats, of update ``number``."""
        drawn = Random(f"{self._seed}/retained/{number}").choices(self._samples, k=self._batch)
        batch = pack(self._processes.own(drawn)).batch
        total, learnt = inside(policy, _measured, *batch, autocast, self._processes.size == 1)
        mean: Tensor = total / self._processes.sum(learnt)
        return mean


def _measured(
    policy: Any,
    inputs: Tensor,
    targets: Tensor,
    positions: Tensor,
    autocast: torch.dtype | None,
    fused: bool,
) -> tuple[Tensor, Tensor]:
    device = next(policy.parameters()).device
    batch = Batch(inputs.to(device), targets.to(device), positions.to(device))
    cast = torch.autocast(device.type, autocast) if autocast else contextlib.nullcontext()
    with cast:
        measured = measure(policy, batch, fused=fused)
    return measured.total, torch.tensor(float(measured.learnt), device=device)
