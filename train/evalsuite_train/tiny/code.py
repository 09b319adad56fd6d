"""Small Python functions from a sentence that says what they return."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from evalsuite_train.tiny.item import Item, Language


class Operation(NamedTuple):
    """What a function returns: the expression, and how the two languages say it."""

    expression: str
    zh: str
    en: str


_OPERATIONS = [
    Operation("x + {c}", "x 加 {c}", "x plus {c}"),
    Operation("x - {c}", "x 减 {c}", "x minus {c}"),
    Operation("x * {c}", "x 乘 {c}", "x times {c}"),
    Operation("x // {c}", "x 整除 {c}", "x divided by {c}, rounded down"),
    Operation("x % {c}", "x 除以 {c} 的余数", "the remainder of x divided by {c}"),
    Operation("x > {c}", "x 是否大于 {c}", "whether x is greater than {c}"),
    Operation("x == {c}", "x 是否等于 {c}", "whether x equals {c}"),
    Operation("max(x, {c})", "x 和 {c} 中较大的数", "the larger of x and {c}"),
    Operation("min(x, {c})", "x 和 {c} 中较小的数", "the smaller of x and {c}"),
]
_VERBS = ("get", "make", "find", "run", "check", "take")
_OBJECTS = ("value", "number", "result", "score", "size", "total")


def code(rng: Random) -> Item:
    """A function to write; its tests are never executed in training."""
    language: Language = rng.choice(("zh", "en"))
    operation, constant = rng.choice(_OPERATIONS), rng.randint(2, 99)
    name = f"{rng.choice(_VERBS)}_{rng.choice(_OBJECTS)}"
    said = (operation.zh if language == "zh" else operation.en).format(c=constant)
    if language == "zh":
        prompt = f"写一个 Python 函数 {name}(x)，返回 {said}。"
    else:
        prompt = f"Write a Python function {name}(x) that returns {said}."
    program = f"def {name}(x):\n    return {operation.expression.format(c=constant)}"
    return Item(
        task="code",
        language=language,
        prompt=prompt,
        reply=program,
        rules=({"type": "same_program", "value": program},),
        content=f"{operation.expression}|{constant}",
        document=f"# {prompt}\n{program}\n",
        fields={"program": program},
    )
