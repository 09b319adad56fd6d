"""Rule-based rewards: typed rules give a reply a score and a veto (RBRS; Mu et al., arXiv 2411.01111).

A rule is a small mapping in a prompt's ``rules``, such as
``{"type": "contains", "value": "长城", "weight": 2.0, "veto": false}``. The score is the weighted
mean of the rules that hold; a rule with ``veto`` that does not hold vetoes the reply, and the
reward of a vetoed reply lies below that of every other one. Rules only read the reply: a program in
it is parsed and compared, never run.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from evalsuite_train.errors import BadData

VETO = -1.0
"""The reward of a vetoed or truncated reply; every other reward lies in [0, 1]."""

APOLOGIES = ("抱歉", "对不起", "很抱歉", "非常抱歉", "sorry", "i'm sorry", "i am sorry")
"""How a refusal begins, in small letters."""

_FINAL = re.compile(r"(?:答案|answer)\s*:", re.IGNORECASE)
_NUMBER = re.compile(r"([-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)([^\d]*)")
_PROGRAM_CHARACTERS = 20_000
_HEAVIEST = 1e9
"""The largest weight: far above any use, and no sum of them overflows."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule; which of ``value``, ``values`` and ``count`` it reads depends on its type.

    Attributes:
        among: for ``items``, what each item has to be one of; empty allows anything.
        weight: its share of the score, against the other rules' weights.
        veto: whether a reply that breaks it is vetoed.
    """

    type: str
    value: str | int | float | None = None
    values: tuple[str, ...] = ()
    count: int | None = None
    among: tuple[str, ...] = ()
    weight: float = 1.0
    veto: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """``values``, or ``value`` alone."""
        return self.values or (() if self.value is None else (str(self.value),))


class Verdict(NamedTuple):
    """What the rules say of one reply.

    Attributes:
        score: weighted mean of the rules that hold, in [0, 1].
        vetoed: whether a rule with a veto does not hold.
        failed: the types of the rules that do not hold, in their order.
    """

    score: float
    vetoed: bool
    failed: tuple[str, ...]

    @property
    def gold(self) -> float:
        """1.0 if every rule holds, else 0.0."""
        return 0.0 if self.failed else 1.0

    @property
    def reward(self) -> float:
        """The score, or :data:`VETO`, which lies below every score."""
        return VETO if self.vetoed else self.score


def score(reply: str, rules: Sequence[Rule | Mapping[str, Any]]) -> Verdict:
    """Judge a reply by its prompt's rules. An empty reply breaks every rule.

    Raises:
        BadData: no rules, an unknown type, or a rule without what its type needs.
    """
    read = read_rules(rules)
    text = reply.strip()
    holds = [bool(text) and _CHECKS[rule.type](text, rule) for rule in read]
    total = math.fsum(rule.weight for rule in read)
    satisfied = math.fsum(rule.weight for rule, held in zip(read, holds, strict=True) if held)
    broken = [rule for rule, held in zip(read, holds, strict=True) if not held]
    return Verdict(
        score=satisfied / total,
        vetoed=any(rule.veto for rule in broken),
        failed=tuple(rule.type for rule in broken),
    )


def read_rules(
    rules: Iterable[Rule | Mapping[str, Any]], *, where: str = "rules"
) -> tuple[Rule, ...]:
    """Check rules as they stand in a data file; those already checked are passed through.

    Args:
        where: file and line, for the error.

    Raises:
        BadData: as for :func:`score`.
    """
    read = tuple(rule if isinstance(rule, Rule) else _read(rule, where) for rule in rules)
    if not read or math.fsum(rule.weight for rule in read) <= 0:
        raise BadData("no rule with a weight", where=where, hint="give each prompt one or more")
    return read


def _read(raw: Mapping[str, Any], where: str) -> Rule:
    kind = raw.get("type") if isinstance(raw, Mapping) else None
    if not isinstance(kind, str) or kind not in _CHECKS:
        raise BadData(f"no rule type {kind!r}", where=where, hint=_nearest(str(kind), _CHECKS))
    for key in raw:
        if key not in Rule.__struct_fields__:
            hint = _nearest(str(key), Rule.__struct_fields__)
            raise BadData(f"{kind}: no key {key!r}", where=where, hint=hint)
    try:
        rule = msgspec.convert(dict(raw), Rule)
    except msgspec.ValidationError as fault:
        raise BadData(f"{kind}: {fault}", where=where) from None
    if not 0 <= rule.weight <= _HEAVIEST:
        raise BadData(f"{kind}: weight {rule.weight} is not from 0 to {_HEAVIEST:g}", where=where)
    needed, given = _NEEDS.get(kind, _TEXT)
    if not given(rule):
        raise BadData(f"{kind}: needs {needed}", where=where)
    return rule


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.4)
    return (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(known)}"


def _number(text: object) -> Decimal | None:
    try:
        number = Decimal(str(text).replace(",", "").replace("−", "-"))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number > 0


def _final_answer(reply: str, rule: Rule) -> bool:
    """The last ``答案：`` or ``Answer:`` is followed by the number, and by no other on its line."""
    parts = _FINAL.split(unicodedata.normalize("NFKC", reply))
    line = parts[-1].strip().partition("\n")[0] if len(parts) > 1 else ""
    found = _NUMBER.fullmatch(line)
    return found is not None and _number(found[1]) == _number(rule.value)


def _items(reply: str, rule: Rule) -> bool:
    items = [item.strip() for item in re.split("[、,，]", reply.rstrip("。.！!"))]
    wanted = set(items) <= set(rule.among) if rule.among else all(items)
    return wanted and len(items) == len(set(items)) == rule.count


def _language(reply: str, rule: Rule) -> bool:
    """zh: at least half of the letters are Chinese characters; en: Latin letters, none Chinese."""
    chinese = sum("一" <= c <= "鿿" for c in reply)
    latin = sum(c.isascii() and c.isalpha() for c in reply)
    if rule.value == "zh":
        return chinese > 0 and chinese >= latin
    return latin > 0 and chinese == 0


def _refuses(reply: str, rule: Rule) -> bool:
    return reply.lower().replace("’", "'").startswith(APOLOGIES)


@lru_cache(maxsize=4096)
def _syntax(program: str) -> str | None:
    """The program's syntax tree as text; None if it is not Python."""
    if len(program) > _PROGRAM_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in a reply are no concern of ours
            return ast.dump(ast.parse(program))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _same_program(reply: str, rule: Rule) -> bool:
    tree = _syntax(reply)
    return tree is not None and tree == _syntax(str(rule.value))


_CHECKS: dict[str, Callable[[str, Rule], bool]] = {
    "final_answer": _final_answer,
    "exactly": lambda reply, rule: reply in rule.texts,
    "contains": lambda reply, rule: all(text in reply for text in rule.texts),
    "excludes": lambda reply, rule: not any(text in reply for text in rule.texts),
    "starts_with": lambda reply, rule: reply.startswith(rule.texts),
    "ends_with": lambda reply, rule: reply.endswith(rule.texts),
    "items": _items,
    "max_characters": lambda reply, rule: len(reply) <= int(rule.value or 0),
    "language": _language,
    "refuses": _refuses,
    "complies": lambda reply, rule: not _refuses(reply, rule),
    "same_program": _same_program,
}
TYPES = tuple(_CHECKS)
"""The types of rules."""

_TEXT = ("a text in 'value', or 'values'", lambda rule: bool(rule.texts) and all(rule.texts))
_NEEDS: dict[str, tuple[str, Callable[[Rule], bool]]] = {
    "final_answer": ("a number in 'value'", lambda rule: _number(rule.value) is not None),
    "items": ("a whole number above 0 in 'count'", lambda rule: _whole(rule.count)),
    "max_characters": ("a whole number above 0 in 'value'", lambda rule: _whole(rule.value)),
    "language": ("'zh' or 'en' in 'value'", lambda rule: rule.value in ("zh", "en")),
    "refuses": ("nothing", lambda rule: True),
    "complies": ("nothing", lambda rule: True),
    "same_program": (
        "a Python program in 'value'",
        lambda rule: _syntax(str(rule.value)) is not None,
    ),
}
