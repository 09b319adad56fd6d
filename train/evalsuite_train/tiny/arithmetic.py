"""Word problems of one or two steps with numbers up to twenty."""

from __future__ import annotations

from random import Random

from evalsuite_train.tiny.item import Item, Language, split_of
from evalsuite_train.tiny.lexicon import NAMES, THINGS

_ZH = {
    "+": [
        "{name}有{a}{measure}{thing}，又买了{b}{measure}，现在有多少{measure}{thing}？",
        "盒子里有{a}{measure}{thing}，{name}又放进{b}{measure}，一共有多少{measure}{thing}？",
    ],
    "-": [
        "{name}有{a}{measure}{thing}，送给朋友{b}{measure}，还剩多少{measure}{thing}？",
        "盒子里有{a}{measure}{thing}，{name}拿走了{b}{measure}，还剩多少{measure}{thing}？",
    ],
    "+-": [
        "{name}有{a}{measure}{thing}，又买了{b}{measure}，送给朋友{c}{measure}，还剩多少{measure}{thing}？"
    ],
}
_EN = {
    "+": [
        "{name} has {a} {things} and buys {b} more. How many {things} are there now?",
        "A box holds {a} {things}. {name} puts in {b} more. How many {things} are there in all?",
    ],
    "-": [
        "{name} has {a} {things} and gives {b} to a friend. How many {things} are left?",
        "A box holds {a} {things}. {name} takes {b} away. How many {things} are left?",
    ],
    "+-": [
        "{name} has {a} {things}, buys {b} more and gives {c} to a friend. How many {things} are left?"
    ],
}


def arithmetic(rng: Random) -> Item:
    """A word problem; its reply shows the steps and then the answer."""
    language: Language = rng.choice(("zh", "en"))
    kind = rng.choices(("+", "-", "+-"), (4, 4, 2))[0]
    if kind == "+-":
        a, b = rng.randint(2, 10), rng.randint(2, 10)
        c = rng.randint(1, a + b - 1)
    else:
        a, b, c = rng.randint(2, 20), rng.randint(2, 20), 0
        if kind == "-":
            a, b = max(a, b) + 1, min(a, b)
    (zh_name, en_name), thing = rng.choice(NAMES), rng.choice(THINGS)
    if language == "zh":
        words = {"name": zh_name, "measure": thing.measure, "thing": thing.zh}
        prompt = rng.choice(_ZH[kind]).format(a=a, b=b, c=c, **words)
    else:
        prompt = rng.choice(_EN[kind]).format(a=a, b=b, c=c, name=en_name, things=thing.plural)
    steps, answer = _working(kind, a, b, c)
    wrong = answer + rng.choice((-2, -1, 1, 2, 10))
    reply = _reply(steps, answer, language)
    return Item(
        task="arithmetic",
        language=language,
        prompt=prompt,
        reply=reply,
        flawed=(_reply([*steps[:-1], steps[-1].split("=")[0] + f"={wrong}"], wrong, language),),
        rules=({"type": "final_answer", "value": str(answer)},),
        content=_content(kind, a, b, c),
        document=f"{prompt}\n{reply}" if rng.random() < 0.5 else _drill(rng),
        fields={"answer": answer},
    )


def _content(kind: str, a: int, b: int, c: int) -> str:
    return f"{kind}{min(a, b)}/{max(a, b)}/{c}"


def _drill(rng: Random) -> str:
    """Lines of sums and differences, as in an exercise book; none that is held out."""
    lines: list[str] = []
    while len(lines) < 6:
        kind, a, b = rng.choice("+-"), rng.randint(2, 20), rng.randint(2, 20)
        if kind == "-":
            a, b = max(a, b) + 1, min(a, b)
        if split_of("arithmetic", _content(kind, a, b, 0)) == "train":
            lines += _working(kind, a, b, 0)[0]
    return "\n".join(lines)


def _working(kind: str, a: int, b: int, c: int) -> tuple[list[str], int]:
    if kind == "+":
        return [f"{a}+{b}={a + b}"], a + b
    if kind == "-":
        return [f"{a}-{b}={a - b}"], a - b
    return [f"{a}+{b}={a + b}", f"{a + b}-{c}={a + b - c}"], a + b - c


def _reply(steps: list[str], answer: int, language: Language) -> str:
    label = "答案：" if language == "zh" else "Answer: "
    return "\n".join([*steps, f"{label}{answer}"])
