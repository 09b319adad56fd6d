"""Which model stands behind a name on a server.

A server says a name, and anybody may serve other weights under it tomorrow. What cannot be faked by
accident is what the weights predict: the probabilities of the likeliest first tokens after a few
open beginnings, which the probe asks for. They move a little with the load of a server, and more
with the number format and the weights, so a model is known again by its name and by probabilities
that are nearly the same.

``served.jsonl`` beside the answer cache keeps what was seen. Where it is missing, a model is
new once and its fingerprint follows from what it predicts now.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from evalsuite import lines
from evalsuite.record import digest

SEEN = "served.jsonl"

NOISE = 0.002
"""Mean total variation between first-token distributions up to which two servers hold the same model.

Measured on the shipped ladder: 1e-6 for one checkpoint on one server, calm or busy; 0.003 to 0.004
between bfloat16 and float32; 0.09 and more between neighbouring rungs. ``tests/test_served.py``
keeps to it. Too low is safe: a model that is not known again is asked again."""

Likely = Mapping[str, float]
"""Log-probability by token, of the likeliest few."""


class Seen(msgspec.Struct, frozen=True):
    """One model that was met behind a name."""

    name: str
    likely: tuple[dict[str, float], ...]
    fingerprint: str


def fingerprint(name: str, likely: Sequence[Likely], file: Path) -> str:
    """The fingerprint of the model of this name that predicts this; known again within the noise.

    A server without log-probabilities has nothing but its name.

    Args:
        likely: of each beginning, the likeliest first tokens.
        file: where models that were met are written down; trouble with it is no hindrance.
    """
    if not likely:
        return digest(["served", name])
    known = [seen for seen in _read(file) if seen.name == name]
    near = [(distance(seen.likely, likely), seen.fingerprint) for seen in known]
    if near and min(near)[0] <= NOISE:
        return min(near)[1]
    rounded = [{token: round(value, 6) for token, value in one.items()} for one in likely]
    new = Seen(name, tuple(rounded), digest(["served", name, rounded]))
    _append(file, new)
    return new.fingerprint


def distance(one: Sequence[Likely], other: Sequence[Likely]) -> float:
    """Mean total variation, 0..1; what is not among the likeliest counts as one more token."""
    if len(one) != len(other):
        return 1.0
    return sum(map(_variation, one, other)) / max(len(one), 1)


def _variation(one: Likely, other: Likely) -> float:
    """Over the tokens that both name; all others are put together, as their total is known."""
    shared = one.keys() & other.keys()
    p = [math.exp(one[token]) for token in shared]
    q = [math.exp(other[token]) for token in shared]
    apart = sum(abs(a - b) for a, b in zip(p, q, strict=True))
    return (apart + abs(sum(p) - sum(q))) / 2


def _read(file: Path) -> list[Seen]:
    try:
        content = file.read_bytes()
    except OSError:
        return []
    seen = []
    for line in content.splitlines():
        try:
            seen.append(lines.decode(line, Seen))
        except (msgspec.DecodeError, ValueError):
            continue
    return seen


def _append(file: Path, seen: Seen) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as stream:
            stream.write(lines.encode(seen) + b"\n")
    except OSError:
        return
