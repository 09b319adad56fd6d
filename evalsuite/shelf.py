"""A sequence that lies on disk once it is long, so that memory does not grow with the data."""

from __future__ import annotations

import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from evalsuite.files import writing

T = TypeVar("T")

IN_MEMORY = 16_384
"""Items that are kept as they are."""


class Shelf(Sequence[T]):
    """Items in order, to be added at the end and read anywhere; each reading may give a new object.

    The first :data:`IN_MEMORY` stay in memory. From then on all are in a temporary file without a
    name, which vanishes with the process; nobody else writes it, so unpickling it is safe. An item
    that cannot be pickled stays in memory.

    Raises:
        CannotWrite: no room for the file.
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._near: list[T] = []
        self._file: Any = None
        self._ends = array("Q", [0])
        self._flushed = 0
        self._odd: dict[int, T] = {}
        for item in items:
            self.append(item)

    def append(self, item: T) -> None:
        """Add an item at the end."""
        if self._file is None and len(self._near) < IN_MEMORY:
            self._near.append(item)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the shelf)
                weakref.finalize(self, self._file.close)
                for earlier in self._near:
                    self._put(earlier)
                self._near = []
            self._put(item)
        except OSError:
            with writing(Path(tempfile.gettempdir())):
                raise

    def _put(self, item: T) -> None:
        try:
            block = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        except Exception:  # whatever a plugin's own type raises
            self._odd[len(self._ends) - 1] = item
            block = b""
        self._file.write(block)
        self._ends.append(self._ends[-1] + len(block))

    def _get(self, index: int) -> T:
        if index in self._odd:
            return self._odd[index]
        start, end = self._ends[index], self._ends[index + 1]
        if end > self._flushed:
            with writing(Path(tempfile.gettempdir())):
                self._file.flush()
            self._flushed = self._ends[-1]
        found: T = pickle.loads(os.pread(self._file.fileno(), end - start, start))
        return found

    def __len__(self) -> int:
        return len(self._near) if self._file is None else len(self._ends) - 1

    def __iter__(self) -> Iterator[T]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if self._file is None:
            return self._near[index]
        if isinstance(index, slice):
            return [self._get(at) for at in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._get(index % len(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]
