"""Endless packed batches drawn from several sources in fixed shares, from any micro-batch on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from evalsuite_train.errors import BadData
from evalsuite_train.sft.batches import ROW, pack
from evalsuite_train.sft.samples import Sample, digest
from evalsuite_train.trainer import Batch


class Source(NamedTuple):
    """Samples and the share of every batch's samples that comes from them."""

    samples: Sequence[Sample]
    share: float


def batches(
    sources: Sequence[Source], count: int, seed: int, *, row: int = ROW
) -> Callable[[int], Iterator[Batch]]:
    """The stream ``batches(n)`` of micro-batches from the ``n``-th on, the same for the same seed.

    Every source is read in epochs, each in a new order, and nothing in it is passed over. The
    shares hold over any stretch of batches to within a sample.

    Args:
        count: samples in a micro-batch.
        row: length of the rows they are packed into.

    Raises:
        BadData: a source with a share has no samples.
    """
    sources = [source for source in sources if source.share > 0]
    if not sources or not all(source.samples for source in sources):
        raise BadData("nothing to learn from", hint="the ledger says what was dropped and why")

    @lru_cache(maxsize=2 * len(sources))
    def order(number: int, epoch: int) -> list[int]:
        places = list(range(len(sources[number].samples)))
        random.Random(f"{seed}/{number}/{epoch}").shuffle(places)
        return places

    def chosen(number: int, index: int) -> Sample:
        samples = sources[number].samples
        epoch, place = divmod(index, len(samples))
        return samples[order(number, epoch)[place]]

    def stream(start: int) -> Iterator[Batch]:
        for n in itertools.count(start):
            drawn = [
                chosen(number, index)
                for number, source in enumerate(sources)
                for index in range(_upto(n, count, source), _upto(n + 1, count, source))
            ]
            yield pack(drawn, row).batch

    return stream


def content(sources: Sequence[Source]) -> str:
    """A sha256 that names the data of all sources, so that no saved state goes on with others."""
    return "-".join(digest(list(source.samples)) for source in sources)


def _upto(n: int, count: int, source: Source) -> int:
    """How many of the source's samples stand in the first ``n`` micro-batches."""
    return int(n * count * source.share + 0.5)
