"""Preference pairs: a prompt, a better reply and a worse one, from files and from other pairs."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Literal

import msgspec

from evalsuite_train.errors import BadData

Kind = Literal["labelled", "on_policy", "cross_prompt", "garbled"]
KINDS: tuple[Kind, ...] = ("labelled", "on_policy", "cross_prompt", "garbled")


class Pair(msgspec.Struct, frozen=True):
    """Two replies to one prompt (plain text, no template); ``kind`` says where the worse is from."""

    task: str
    prompt: str
    chosen: str
    rejected: str
    kind: Kind = "labelled"


class Shares(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much of the training is of each kind of pair; relative to each other.

    Attributes:
        labelled: from the preference file.
        on_policy: the SFT model's own good and bad replies, judged by rules.
        cross_prompt: a good reply to another prompt is a bad one to this.
        garbled: the good reply shuffled, repeated, cut short or run on.
    """

    labelled: float = 0.4
    on_policy: float = 0.3
    cross_prompt: float = 0.15
    garbled: float = 0.15


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a JSONL file with task, prompt, chosen and rejected; more keys are left aside.

    Raises:
        BadData: a malformed line, an empty text, two equal replies, or no line at all.
    """
    decoder = msgspec.json.Decoder(Pair)
    pairs = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        where = f"{path}:{number}"
        try:
            pair = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise BadData(
                f"not a preference: {fault}",
                where=where,
                hint='one object a line: {"task": …, "prompt": …, "chosen": …, "rejected": …}',
            ) from None
        if not (pair.prompt.strip() and pair.chosen.strip() and pair.rejected.strip()):
            raise BadData("an empty prompt or reply", where=where, hint="drop the line")
        if pair.chosen.strip() == pair.rejected.strip():
            raise BadData("the two replies are equal", where=where, hint="drop the line")
        pairs.append(msgspec.structs.replace(pair, kind="labelled"))
    if not pairs:
        raise BadData("no preferences", where=str(path), hint="run the data stage first")
    return pairs


def is_validation(prompt: str, share: float) -> bool:
    """Whether a prompt is held out; by its content, so that all its pairs go the same way."""
    return zlib.crc32(prompt.strip().encode()) / 2**32 < share


class PairStream:
    """Pairs of every kind in fixed shares, the n-th the same whenever it is asked for.

    Args:
        labelled: pairs of preferences.
        on_policy: pairs sampled from the model and judged by rules.
        shares: of the stream; a kind without pairs gives its share to the others.
    """

    def __init__(
        self,
        labelled: Sequence[Pair],
        on_policy: Sequence[Pair],
        shares: Shares,
        seed: int,
    ) -> None:
        self.labelled, self.on_policy, self.seed = labelled, on_policy, seed
        weights: dict[Kind, float] = {kind: getattr(shares, kind) for kind in KINDS}
        if not on_policy:
            weights["on_policy"] = 0.0
        self.kinds = [kind for kind in KINDS if weights[kind] > 0]
        self.weights = [weights[kind] for kind in self.kinds]

    def __getitem__(self, index: int) -> Pair:
        random = Random(f"{self.seed}/{index}")
        return self.pair(random.choices(self.kinds, self.weights)[0], random)

    def pair(self, kind: Kind, random: Random) -> Pair:
        """One pair of a kind."""
        if kind == "on_policy":
            return random.choice(self.on_policy)
        pair = random.choice(self.labelled)
        if kind == "cross_prompt":
            return self._cross_prompt(pair, random)
        return garbled(pair, random) if kind == "garbled" else pair

    def _cross_prompt(self, pair: Pair, random: Random) -> Pair:
        """A good reply to another prompt, three times of four of the same task, is a bad one to this."""
        for _ in range(20):
            other = random.choice(self.labelled)
            near = other.task == pair.task or random.random() < 0.25
            if (
                near
                and pair.chosen not in (other.chosen, other.rejected)
                and other.prompt != pair.prompt
            ):
                return msgspec.structs.replace(pair, rejected=other.chosen, kind="cross_prompt")
        return garbled(pair, random)


def garbled(pair: Pair, random: Random) -> Pair:
    """The good reply damaged: shuffled, said again and again, cut short, or run together."""
    text = pair.chosen
    ways = [_shuffled, _repeated, _cut, _run_on]
    random.shuffle(ways)
    for way in ways:
        bad = way(text, random)
        if bad.strip() and bad.strip() != text.strip():
            return msgspec.structs.replace(pair, rejected=bad, kind="garbled")
    return msgspec.structs.replace(pair, rejected=text + text + text, kind="garbled")


def _shuffled(text: str, random: Random) -> str:
    parts = text.split(" ") if text.count(" ") > 2 else list(text)
    random.shuffle(parts)
    return (" " if text.count(" ") > 2 else "").join(parts)


def _repeated(text: str, random: Random) -> str:
    return " ".join([text] * random.randint(2, 3))


def _cut(text: str, random: Random) -> str:
    return text[: random.randint(1, max(1, len(text) * 2 // 3))]


def _run_on(text: str, random: Random) -> str:
    start = random.randrange(len(text)) if text else 0
    piece = text[start : start + random.randint(1, 4)]
    return text[:start] + piece * random.randint(3, 8)
