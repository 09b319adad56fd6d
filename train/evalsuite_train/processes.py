"""The processes that train one model together, started by torchrun, one a device; alone, there is one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from evalsuite_train.errors import BadRecipe

T = TypeVar("T")


class Processes:
    """One process among those that do the same work on different rows.

    All of them run the same program and come to the same decisions; the first one alone writes.

    Attributes:
        rank: this process, from 0; ``size`` of them.
        device: where this one computes.
    """

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device

    @property
    def first(self) -> bool:
        """Whether this one writes the files."""
        return self.rank == 0

    def own(self, items: Sequence[T]) -> list[T]:
        """This process's share: one of every ``size``."""
        return list(items[self.rank :: self.size])

    def gather(self, own: Sequence[T]) -> list[T]:
        """The shares of all processes, in the order that :meth:`own` took them from."""
        if self.size == 1:
            return list(own)
        shares: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(shares, list(own))
        count = sum(map(len, shares))
        return [shares[place % self.size][place // self.size] for place in range(count)]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size == 1:
            return values
        total = values.detach().cpu()
        dist.all_reduce(total)
        return total.to(values.device)

    def most(self, number: int) -> int:
        """The largest number that any of them has."""
        if self.size == 1:
            return number
        largest = torch.tensor(number)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def any(self, flag: bool) -> bool:
        """Whether it is so for one of them at least."""
        return self.most(int(flag)) > 0

    def wait(self) -> None:
        """Until all have come here."""
        self.most(0)

    def part(self) -> None:
        """The common work is done: the first goes on alone, the others end here."""
        if self.size > 1:
            leave_to_first()


ALONE = Processes(0, 1, torch.device("cpu"))
"""For work that no other process takes part in."""


def join(device: str) -> Processes:
    """This process among those that torchrun started; alone where it started none.

    Args:
        device: of a recipe: ``auto`` is CUDA where there is one, else the CPU.
    """
    place, size = device_of(device), launched()
    if size == 1:
        return Processes(0, 1, place)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    if not dist.is_initialized():
        # numbers and texts go by way of the host, tensors of the model from device to device
        dist.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), size, place)


def device_of(name: str) -> torch.device:
    """The device of a recipe's ``device``; ``auto`` is CUDA where there is one, else the CPU.

    Of several CUDA devices each process that torchrun started on this host has its own.

    Raises:
        BadRecipe: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as fault:
        reason = str(fault).splitlines()[0]
        raise BadRecipe(f"no device {name!r} here", where="device", hint=reason) from None
    return device


def launched() -> int:
    """How many processes torchrun started; 1 where it started none."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leave_to_first() -> None:
    """The common work of processes that a library brought together is done; the others end here."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
    if not leads():
        raise SystemExit(0)


def leads() -> bool:
    """Whether this process, among those that torchrun started, is the one that writes."""
    return os.environ.get("RANK", "0") == "0"
