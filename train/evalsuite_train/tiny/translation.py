"""Sentences of who, when, where and what, in both languages from one grammar."""

from __future__ import annotations

from random import Random

from evalsuite_train.tiny.item import Item
from evalsuite_train.tiny.lexicon import ACTIONS, FUTURE, HABITS, PAST, PLACES, SUBJECTS

_TO_ENGLISH = ("把这句话翻译成英文：{}", "翻译成英文：{}")
_TO_CHINESE = ("Translate into Chinese: {}", "Say this in Chinese: {}")


def translation(rng: Random) -> Item:
    """A sentence to translate into the other language."""
    subject, action, place = rng.choice(SUBJECTS), rng.choice(ACTIONS), rng.choice(PLACES)
    tense = rng.choice(("habit", "past", "future"))
    zh_time, en_time = rng.choice({"habit": HABITS, "past": PAST, "future": FUTURE}[tense])
    middle = {"habit": "", "past": "", "future": "要"}[tense]
    zh = f"{subject[0]}{zh_time}{middle}在{place[0]}{action.zh}。"
    verb = {
        "habit": action.third if subject[2] == "3" else action.base,
        "past": action.past,
        "future": f"will {action.base}",
    }[tense]
    en = f"{subject[1]} {verb} {place[1]} {en_time}."
    en = en[0].upper() + en[1:]
    to_english = rng.random() < 0.5
    source, target = (zh, en) if to_english else (en, zh)
    return Item(
        task="translation",
        language="zh" if to_english else "en",
        prompt=rng.choice(_TO_ENGLISH if to_english else _TO_CHINESE).format(source),
        reply=target,
        rules=({"type": "exactly", "values": [target]},),
        content=zh,
        document=f"{zh}\n{en}" if rng.random() < 0.5 else f"{en}\n{zh}",
        fields={"reference": target, "direction": "zh-en" if to_english else "en-zh"},
    )
