"""How replies are sampled: the generation settings that the four systems were published with."""

from __future__ import annotations

import difflib

import msgspec

from evalsuite_train.errors import BadRecipe


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Generation settings, in the terms of transformers.

    Attributes:
        max_new_tokens: a reply that has no end by then is cut off, and says so.
        temperature: 0 is greedy.
        top_k: 0 keeps all tokens.
        repetition_penalty: 1 is none.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0


SAMPLING: dict[str, Sampling] = {
    "ziya": Sampling(max_new_tokens=1024, temperature=1.0, top_p=0.85, repetition_penalty=1.0),
    "atom": Sampling(
        max_new_tokens=512, temperature=0.3, top_k=50, top_p=0.95, repetition_penalty=1.3
    ),
    "yayi": Sampling(max_new_tokens=100, temperature=0.3, repetition_penalty=1.1),
    "tencent": Sampling(max_new_tokens=512),
    "greedy": Sampling(max_new_tokens=1024, temperature=0.0),
}
"""Ziya-LLaMA-13B, Atom-7B, YaYi and Chinese-ChatLLaMA (which names none: plain sampling)."""


def sampling(name: str) -> Sampling:
    """The settings called ``name``.

    Raises:
        BadRecipe: there are none of that name.
    """
    if name not in SAMPLING:
        near = difflib.get_close_matches(name, SAMPLING, 1)
        hint = (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(SAMPLING)}"
        raise BadRecipe(f"no generation settings {name!r}", where="--settings", hint=hint)
    return SAMPLING[name]
