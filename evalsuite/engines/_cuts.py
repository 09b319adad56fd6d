"""Tokenising line by line, where that gives the very ids of the whole text.

Prompts share their examples and differ in a question; the choices of a question share all but their
last line. Cut into lines, each of which is tokenised once, thousands of prompts take a tenth of the
time. A text may be cut after a line end that stands between two characters that are no white space,
if no token reaches across it and nothing before or behind it is read otherwise because of the cut.
:func:`may_be_cut` decides that from what the tokenizer is made of:

- Byte-pair encoding only ever joins neighbours into a token of its vocabulary. Where none of these
  has a line end followed by anything but white space, both sides of the cut are merged apart.
- What changes the text beforehand (normaliser, special tokens) must leave line ends alone, and what
  splits it into words must set a border at the cut, whatever stands around it.

Anything else is tokenised whole.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

Ids = tuple[int, ...]

_CUT = re.compile(r"(?<=[^\s▁])\n(?=[^\s▁])")
_SPACE = re.compile(r"[\s▁]")
_ACROSS = re.compile(r"[\nĊ](?!$|[\sĊ▁]|Ġ|ĉ|č|ċ|Č|ãĢĢ|Âł)")
"""A line end before something else: as it is, or as byte-level vocabularies write its byte, followed
by how they write other white space. Part of a character may be the beginning of any."""

_LEFT = ("a", "Z", "1", "题", "é", "。", *string.punctuation)
_RIGHT = ("b", "Q", "2", "目", "ß", "，", "🙂", *string.punctuation)
_AROUND = (("x ", "y z"), ("9.", "3 4"), ("", ""), ("…\n", "\n."), ("们", "是 A"))
"""What the border is tried between: every pair of the two, with these around them."""


def encode_by_lines(
    texts: Sequence[str], encode: Callable[[list[str]], list[Ids]], lead: Ids
) -> list[tuple[Ids, Ids]]:
    """Ids of each text from those of its lines: of all but the last one, and of the last.

    Texts that share all but their last line share the first tuple; it is empty for one line.

    Args:
        encode: ids of each of a list of texts as wholes.
        lead: ids of a line end alone, with whatever is put before a text.
    """
    ends = [_last_cut(text) for text in texts]
    heads = [text[:end] for text, end in zip(texts, ends, strict=True)]
    tails = [text[end - 1 :] if end else text for text, end in zip(texts, ends, strict=True)]
    lines = {head: _lines(head) for head in dict.fromkeys(heads) if head}
    parts = list(dict.fromkeys(chain(chain.from_iterable(lines.values()), tails)))
    ids = dict(zip(parts, encode(parts), strict=True))
    behind = {part: found[len(lead) :] for part, found in ids.items() if part[:1] == "\n"}
    joined = {
        head: tuple(chain(ids[first], *map(behind.__getitem__, others)))
        for head, (first, *others) in lines.items()
    }
    return [
        (joined[head], behind[tail]) if head else ((), ids[tail])
        for head, tail in zip(heads, tails, strict=True)
    ]


def _last_cut(text: str) -> int:
    """Where the last line begins; 0 where the text cannot be cut."""
    at = len(text) - 1
    while (at := text.rfind("\n", 1, at)) > 0:
        if not (_SPACE.match(text, at - 1) or _SPACE.match(text, at + 1)):
            return at + 1
    return 0


def _lines(head: str) -> list[str]:
    """The lines with their ends; each but the first also with the line end before it."""
    first, *others = _CUT.split(head[:-1])
    return [f"{first}\n", *(f"\n{line}\n" for line in others)]


def may_be_cut(backend: Any) -> bool:
    """Whether a tokenizer of the library ``tokenizers`` reads a text line by line as it reads the whole."""
    made_of: dict[str, Any] = json.loads(backend.to_str())
    return (
        _merges_apart(made_of["model"])
        and all(map(_keeps_line_ends, _steps(made_of["normalizer"], "normalizers")))
        and not any(map(_minds_neighbours, made_of["added_tokens"]))
        and _splits_at_line_ends(
            backend.pre_tokenizer, _steps(made_of["pre_tokenizer"], "pretokenizers")
        )
    )


def _steps(part: dict[str, Any] | None, plural: str) -> list[dict[str, Any]]:
    """A part and, where it is a sequence, what is in it."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [step for inner in part[plural] for step in _steps(inner, plural)]


def _merges_apart(model: dict[str, Any]) -> bool:
    if model["type"] != "BPE" or model.get("dropout"):
        return False
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return False
    vocabulary: dict[str, int] = model["vocab"]
    known = "\n" in vocabulary or "Ċ" in vocabulary
    known = known or (bool(model.get("byte_fallback")) and "<0x0A>" in vocabulary)
    return known and not any(map(_reaches_across, vocabulary))


def _reaches_across(piece: str) -> bool:
    """Whether a token has a line end followed by anything but white space, in either alphabet."""
    return bool(_ACROSS.search(piece)) or ("<0x0A>" in piece and piece != "<0x0A>")


def _keeps_line_ends(normalizer: dict[str, Any]) -> bool:
    if normalizer["type"] == "Replace":
        return bool(normalizer["pattern"] == {"String": " "} and "\n" not in normalizer["content"])
    return normalizer["type"] in ("NFC", "Prepend") and "\n" not in normalizer.get("prepend", "")


def _minds_neighbours(token: dict[str, Any]) -> bool:
    return bool(
        "\n" in token["content"] or token["lstrip"] or token["rstrip"] or token["single_word"]
    )


def _splits_at_line_ends(pre_tokenizer: Any, steps: list[dict[str, Any]]) -> bool:
    if all(step["type"] == "Metaspace" for step in steps):
        return True
    if any(step["type"] not in ("ByteLevel", "Split", "Digits") for step in steps):
        return False
    return all(
        _same_words(pre_tokenizer, f"{before}{left}", f"{right}{behind}")
        for left in _LEFT
        for right in _RIGHT
        for before, behind in _AROUND
    )


def _same_words(pre_tokenizer: Any, left: str, right: str) -> bool:
    """Whether both sides of a line end are split into words as they are in one text."""

    def words(text: str) -> list[str]:
        return [word for word, _ in pre_tokenizer.pre_tokenize_str(text)]

    lead = words("\n")
    behind = words("\n" + right)
    return behind[: len(lead)] == lead and words(f"{left}\n{right}") == [
        *words(left + "\n"),
        *behind[len(lead) :],
    ]
