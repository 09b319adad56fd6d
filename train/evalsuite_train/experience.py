"""The experience pool: every reply that RL sampled, with what it was worth, in one compressed journal."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from evalsuite_train.errors import BadData

POOL = "experience.jsonl.gz"
"""The pool's name in a section's folder."""

GZIP = 31  # zlib's way of asking for gzip's frame
BLOCK = 1 << 16  # compressed bytes read at once


class Experience(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sampled reply.

    Attributes:
        prompt_id: the ``id`` in the prompt file.
        reply: its text, without EOS.
        reward: what PPO got for it, without the KL penalty.
        rm: the normalised score of the reward model, if there was one.
        rules: the graded score of the rules; None for a prompt without rules.
        kl: log-probability under the policy minus under the reference, summed over the reply.
        finished: whether it ended with EOS; a truncated one is never rewarded.
    """

    prompt_id: str
    task: str
    reply: str
    reward: float
    kl: float
    iteration: int
    finished: bool
    rm: float | None = None
    rules: float | None = None
    vetoed: bool = False
    gold: float | None = None


class ExperiencePool:
    """An append-only gzip journal: every call of :meth:`append` adds one member to it.

    A file cut off in the middle loses its last member only; :meth:`back_to` takes a pool back to
    the place that a saved training state remembers, so a resumed run writes nothing twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.silent = False  # of several processes one writes

    def size(self) -> int:
        """Bytes on the disk."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def back_to(self, size: int) -> None:
        """Cut the file to the size it had."""
        if not self.silent and self.size() > size:
            with self.path.open("r+b") as file:
                file.truncate(size)

    def append(self, samples: Iterable[Experience]) -> None:
        """Add samples at the end."""
        if self.silent:
            return
        lines = b"".join(msgspec.json.encode(sample) + b"\n" for sample in samples)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(gzip.compress(lines, 6, mtime=0))

    def __iter__(self) -> Iterator[Experience]:
        """Every whole sample, oldest first, streaming.

        Raises:
            BadData: the file is no such journal.
        """
        decoder = msgspec.json.Decoder(Experience)
        for number, line in enumerate(self._lines(), 1):
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as fault:
                raise BadData(
                    f"not a sample: {fault}", where=f"{self.path}: line {number}"
                ) from None

    def __len__(self) -> int:
        """How many samples the pool holds."""
        return sum(1 for _ in self._lines())

    def _lines(self) -> Iterator[bytes]:
        """Whole lines; a last member that was cut off gives those that can still be read."""
        rest = b""
        for block in self._blocks():
            *lines, rest = (rest + block).split(b"\n")
            yield from lines

    def _blocks(self) -> Iterator[bytes]:
        if not self.path.is_file():
            return
        member = zlib.decompressobj(GZIP)
        with self.path.open("rb") as file:
            while content := file.read(BLOCK):
                while content:
                    try:
                        yield member.decompress(content)
                    except zlib.error as fault:
                        raise BadData(f"damaged: {fault}", where=str(self.path)) from None
                    content = member.unused_data
                    if member.eof:
                        member = zlib.decompressobj(GZIP)
