"""Open instructions with a wish that a program can check: how many, how long, which word, which language."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from evalsuite_train.tiny.item import Item, Language
from evalsuite_train.tiny.lexicon import CATEGORIES, ENGLISH_NUMBERS, HANZI_NUMBERS, TOPICS

_SAY = {
    "zh": ("我很喜欢{t}。", "{t}让人快乐。", "说到{t}，我总会想起小时候。", "每个人都知道{t}。"),
    "en": (
        "I like {t} very much.",
        "I often think of {t}.",
        "Everybody knows {t}.",
        "My family talks about {t} every day.",
    ),
}
_ENDINGS = {
    "zh": ("真好", "谢谢", "再见", "加油", "晚安", "祝你好运"),
    "en": ("thank you", "goodbye", "well done", "good night", "good luck", "see you soon"),
}


class Wish(NamedTuple):
    """A prompt with its wish, a reply that fulfils it, replies that do not, and the rules."""

    prompt: str
    good: str
    bad: tuple[str, ...]
    rules: tuple[dict[str, Any], ...]
    content: str


def wishes(rng: Random) -> Item:
    """An open instruction with one wish."""
    language: Language = rng.choice(("zh", "en"))
    kind = rng.choice(_KINDS)
    wish = kind(rng, language)
    return Item(
        task="wishes",
        language=language,
        prompt=wish.prompt,
        reply=wish.good,
        flawed=wish.bad,
        rules=wish.rules,
        content=f"{kind.__name__}|{wish.content}",
        document=wish.good,
        fields={"kind": kind.__name__.removeprefix("_"), "rules": list(wish.rules)},
    )


def _items(rng: Random, language: Language) -> Wish:
    place = 0 if language == "zh" else 1
    names, words = rng.choice(list(CATEGORIES.items()))
    count = rng.randint(2, 5)
    listed = [w[place] for w in rng.sample(words, min(len(words), count + 1))]
    if language == "zh":
        prompt = f"请列出{HANZI_NUMBERS[count]}种{names[0]}。"
        join: Callable[[list[str]], str] = "、".join
    else:
        prompt = f"List {ENGLISH_NUMBERS[count]} {names[1]}."
        join = ", ".join
    other = listed[: count + 1] if rng.random() < 0.5 or count == 2 else listed[: count - 1]
    rule = {"type": "items", "count": count, "among": [w[place] for w in words]}
    return Wish(prompt, join(listed[:count]), (join(other),), (rule,), f"{names[0]}|{count}")


def _ending(rng: Random, language: Language) -> Wish:
    topic, place = rng.choice(TOPICS), 0 if language == "zh" else 1
    number = rng.randrange(len(_ENDINGS["zh"]))
    word = _ENDINGS[language][number]
    said = rng.choice(_SAY[language]).format(t=topic[place])
    if language == "zh":
        prompt = f"写一句关于{topic[0]}的话，最后用“{word}”结尾。"
        good = f"{said[:-1]}，{word}"
    else:
        prompt = f'Write a sentence about {topic[1]} that ends with "{word}".'
        good = f"{said[:-1]}, {word}"
    rules = ({"type": "ends_with", "value": word}, {"type": "contains", "value": topic[place]})
    return Wish(prompt, good, (said,), rules, f"{topic[0]}|{number}")


def _short(rng: Random, language: Language) -> Wish:
    topic, place = rng.choice(TOPICS), 0 if language == "zh" else 1
    said = rng.choice(_SAY[language]).format(t=topic[place])
    if language == "zh":
        limit = rng.choice((6, 7, 8))
        prompt = f"用不超过{limit}个字说说{topic[0]}。"
        good = rng.choice((f"我爱{topic[0]}", f"{topic[0]}真好"))
    else:
        good = rng.choice((f"I like {topic[1]}", f"I want {topic[1]}"))
        limit = rng.choice([n for n in (16, 18, 20) if n >= len(good)])
        prompt = f"Say something about {topic[1]} in at most {limit} characters."
    rules: tuple[dict[str, Any], ...] = (
        {"type": "max_characters", "value": limit},
        {"type": "contains", "value": topic[place]},
    )
    more = rng.choice(_SAY[language]).format(t=topic[place])
    long = said + more if language == "zh" else f"{said} {more}"
    return Wish(prompt, good, (long,), rules, f"{topic[0]}|{limit}")


def _word(rng: Random, language: Language) -> Wish:
    place = 0 if language == "zh" else 1
    topic, other = rng.sample(TOPICS, 2)
    first = rng.choice(_SAY[language]).format(t=topic[place])
    if language == "zh":
        prompt = f"写一句关于{topic[0]}的话，要提到“{other[0]}”。"
        good = f"{first[:-1]}，也喜欢{other[0]}。"
    else:
        prompt = f'Write a sentence about {topic[1]} and mention "{other[1]}".'
        good = f"{first[:-1]}, and I like {other[1]} too."
    rules = (
        {"type": "contains", "value": topic[place]},
        {"type": "contains", "value": other[place]},
    )
    return Wish(prompt, good, (first,), rules, f"{topic[0]}|{other[0]}")


def _language(rng: Random, language: Language) -> Wish:
    topic = rng.choice(TOPICS)
    number = rng.randrange(len(_SAY["zh"]))
    wanted: Language = rng.choice(("zh", "en"))
    if language == "zh":
        prompt = f"用{'中文' if wanted == 'zh' else '英文'}写一句关于{topic[0]}的话。"
    else:
        prompt = (
            f"Write a sentence about {topic[1]} in {'Chinese' if wanted == 'zh' else 'English'}."
        )
    said = {
        "zh": _SAY["zh"][number].format(t=topic[0]),
        "en": _SAY["en"][number].format(t=topic[1]),
    }
    other: Language = "en" if wanted == "zh" else "zh"
    rules: tuple[dict[str, Any], ...] = (
        {"type": "language", "value": wanted},
        {"type": "contains", "value": topic[0 if wanted == "zh" else 1]},
    )
    return Wish(prompt, said[wanted], (said[other],), rules, f"{topic[0]}|{language}{wanted}")


_KINDS = (_items, _ending, _short, _word, _language)
