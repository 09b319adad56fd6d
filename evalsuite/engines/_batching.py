"""Putting rows together: shared prefixes, token budgets, and retries with smaller batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from evalsuite.request import Failure

T = TypeVar("T")
R = TypeVar("R")


_OWN_GROUP = 256
"""Tokens that are worth the two smaller passes of a group of its own."""


class Group(msgspec.Struct, Generic[T]):
    """Rows whose first ``prefix`` tokens are equal and worth computing once."""

    prefix: int
    rows: list[T]


class Budget:
    """Tokens that one batch may hold; smaller after each batch that did not fit in memory."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def shrink(self) -> None:
        """Halve it, for all batches to come."""
        self.tokens = max(1, self.tokens // 2)


def group_by_prefix(
    rows: Iterable[T],
    tokens: Callable[[T], tuple[int, ...]],
    limit: Callable[[T], int],
    *,
    least_tokens: int = 16,
    least_rows: int = 2,
    nested: bool = False,
) -> list[Group[T]]:
    """Group rows that begin alike; what shares too little comes in one group without a prefix.

    Rows are sorted, so that equal beginnings are neighbours, and a neighbour joins a group as long
    as the tokens saved, (rows − 1) × prefix, do not become fewer by it; where a group costs no more
    than what its prefix adds to the one before, as long as those that the group saves less are few.

    Args:
        nested: whether a prefix is computed from where the prefix of the group before leaves it.
        limit: how many of a row's first tokens need no logits of their own.
        least_tokens: a shorter prefix is not worth a pass of its own.
        least_rows: fewer rows are not worth one either.
    """
    alone: list[T] = []
    groups: list[Group[T]] = []
    current: Group[T] | None = None

    def close(group: Group[T] | None) -> None:
        if group is None:
            return
        if group.prefix >= least_tokens and len(group.rows) >= least_rows:
            groups.append(group)
        else:
            alone.extend(group.rows)

    for row in sorted(rows, key=tokens):
        if current is not None:
            first = current.rows[0]
            shared = common(tokens(first), tokens(row), min(current.prefix, limit(row)))
            lost = (len(current.rows) - 1) * (current.prefix - shared)
            bearable = _OWN_GROUP if nested else shared
            if shared >= least_tokens and lost <= bearable:
                current.prefix = shared
                current.rows.append(row)
                continue
        close(current)
        current = Group(limit(row), [row])
    close(current)
    return [*groups, Group(0, alone)] if alone else groups


def batches(
    rows: Sequence[T], cost: Callable[[T], int], budget: Budget, *, most: int = 1 << 30
) -> Iterator[list[T]]:
    """Cut rows, sorted from the longest to the shortest, into padded batches within a budget.

    Args:
        cost: tokens of a row; a batch costs its rows × its longest.
        most: rows of a batch at most.
    """
    batch: list[T] = []
    for row in rows:
        if batch and (len(batch) >= most or (len(batch) + 1) * cost(batch[0]) > budget.tokens):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def attempt(
    batch: list[T], compute: Callable[[list[T]], Iterator[tuple[T, R]]], budget: Budget
) -> Iterator[tuple[T, R | Failure]]:
    """Compute a batch, and whatever of it fails again in smaller ones.

    Out of memory: in halves. Any other fault: one row at a time. A row that fails alone is a
    :class:`Failure`. Interrupts pass through.

    Args:
        compute: yields each row with its result as it is done.
    """
    waiting = [batch]
    while waiting:
        current = waiting.pop()
        done: set[int] = set()
        try:
            for row, result in compute(current):
                done.add(id(row))
                yield row, result
            continue
        except Exception as fault:
            memory = is_out_of_memory(fault)
            failure = describe(fault)
        left = [row for row in current if id(row) not in done]
        if memory:
            release()
        if len(current) == 1:
            yield from ((row, failure) for row in left)
        elif memory:
            budget.shrink()
            middle = (len(left) + 1) // 2
            waiting += [part for part in (left[middle:], left[:middle]) if part]
        else:
            waiting += [[row] for row in reversed(left)]


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether torch or Python ran out of memory, on any device."""
    import torch

    if isinstance(fault, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(fault, RuntimeError) and (
        "not enough memory" in str(fault) or "allocate memory" in str(fault)
    )


def describe(fault: BaseException) -> Failure:
    """The failure of a sample whose computation raised ``fault``."""
    lines: list[str] = str(fault).strip().splitlines()
    message = f"{type(fault).__name__}: {lines[0] if lines else ''}"[:300]
    return Failure("out_of_memory" if is_out_of_memory(fault) else "engine_failed", message)


def release() -> None:
    """Give memory that torch holds in reserve back to the device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def common(left: Sequence[Any], right: Sequence[Any], most: int) -> int:
    """How many of the first ``most`` items are the same in both."""
    most = min(most, len(left), len(right))
    if left[:most] == right[:most]:
        return most
    return next(at for at in range(most) if left[at] != right[at])
