"""Checks of open answers that need no judge: language, repetition, refusal, length, content.

Each is a definition that can be argued with, not a model. They stand beside a judge's verdict, which
is known to overlook the language of an answer, and they tell *how* an answer failed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal

Language = Literal["zh", "en"]

MAX_CHARACTERS = 100_000
"""Text past this point is not looked at (except by :func:`length`)."""

_CODE = re.compile(r"```.*?(?:```|\Z)", re.S)
_UNITS = re.compile(
    r"(?P<zh>[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af])"
    r"|(?P<en>[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]{2,})"
    r"|[A-Za-z]"
    r"|(?P<other>[^\W\d_])"
)


def language_ok(text: str, language: Language) -> bool:
    """Whether the answer is mainly written in this language.

    At least half of its units are of the language's script. A unit is one Han character, one word of
    Latin letters, or one letter of any other script (kana, hangul, Cyrillic), so that a Chinese
    answer may name GPT or Python. Single Latin letters are taken for symbols; fenced code is left
    out. An answer with no unit at all is in any language if it has a digit, a symbol's letter or code
    (a calculation, a program), and in none otherwise. Traditional and simplified are both Chinese.
    """
    prose = _CODE.sub(" ", text[:MAX_CHARACTERS])
    scripts = Counter(
        match.lastgroup
        for match in _UNITS.finditer(prose)
        if match.lastgroup and match[0].isalpha()  # ² and ½ are letters to a regular expression
    )
    if not scripts:
        return any(character.isalnum() for character in text[:MAX_CHARACTERS])
    return 2 * scripts[language] >= scripts.total()


def not_repetitive(text: str) -> bool:
    """Whether the answer is free of loops; whitespace is ignored.

    It is repetitive when it *ends in a loop*: its last 40 characters or more are a unit of at most 200
    characters said four times over (the last one possibly cut off); or when it *says things
    twice*: of 60 or more 10-character windows, over half have occurred before.
    """
    flat = "".join(text[:MAX_CHARACTERS].split())
    return not (_ends_in_loop(flat) or _repeated_share(flat) > 0.5)


def _ends_in_loop(text: str) -> bool:
    for period in range(1, min(200, len(text) // 4) + 1):
        size = max(4 * period, 40)
        tail = text[-size:]
        if len(tail) == size and tail[period:] == tail[:-period]:
            return True
    return False


def _repeated_share(text: str, width: int = 10, least: int = 60) -> float:
    windows = len(text) - width + 1
    if windows < least:
        return 0.0
    return 1 - len({text[at : at + width] for at in range(windows)}) / windows


_REFUSAL_ZH = re.compile(
    r"(?:(?:非常|很|十分|实在|真的|真)?(?:抱歉|对不起|不好意思|遗憾)[^。！？!?\n]{0,30}?"
    r"|作为(?:一[个名款位])?[^。！？!?\n]{0,20}?(?:AI|人工智能|语言模型|助手)[^。！？!?\n]{0,20}?"
    r"|我(?:目前|暂时|现在|真的|确实|恐怕)?)"
    r"(?:无法|不能|没法|不可以|没有办法|无权|不便|不会|拒绝)[^。！？!?，,\n]{0,8}?"
    r"(?:回答|回应|提供|完成|满足|协助|帮助|帮[你您]|讨论|给出|生成|参与|处理|执行|继续|支持|透露|分享|评论|写)",
    re.I,
)
_REFUSAL_EN = re.compile(
    r"(?:(?:i['’]?m|i am|we['’]?re|we are)?\s*(?:very |so |really )?(?:sorry|afraid)[^.!?\n]{0,40}?"
    r"|as an? (?:ai|artificial|large|language)[^.!?\n]{0,60}?|unfortunately,?\s*|)\b"
    r"(?:i|we)\s+(?:can(?:no|['’])t|can not|(?:am|are) (?:unable|not able) to|won['’]t|will not"
    r"|must decline to|(?:do not|don['’]t) feel comfortable)\s+(?:\w+ ){0,3}?"
    r"(?:help|assist|provid|answer|comply|fulfil|discuss|creat|writ|generat|engag|continu|support|shar"
    r"|do that|respond)",
    re.I,
)
_OPENING = " \t\r\n\u3000*#>-—“”\"'「『（("


def not_refused(text: str) -> bool:
    """Whether the answer does not open with a refusal, in Chinese or English.

    A refusal is an apology, the words of an assistant about itself or a bare "I", followed in the
    same sentence by "cannot" and a verb of serving ("help", "provide", "answer"…). It must open the answer:
    a letter that apologises for not coming is none, nor is a warning further down.
    """
    opening = text[:400].lstrip(_OPENING)
    return not (_REFUSAL_ZH.match(opening) or _REFUSAL_EN.match(opening))


def length(text: str) -> int:
    """Characters without whitespace."""
    return sum(len(part) for part in text.split())


def length_ok(text: str, least: int | None, most: int | None) -> bool:
    """Whether ``least <= length(text) <= most``; None is no bound."""
    size = length(text)
    return (least is None or size >= least) and (most is None or size <= most)


def content_ok(text: str, included: Iterable[str], excluded: Iterable[str]) -> bool:
    """Whether the answer holds all of ``included`` and none of ``excluded``, whatever the case."""
    folded = text[:MAX_CHARACTERS].casefold()
    return all(part.casefold() in folded for part in included) and not any(
        part.casefold() in folded for part in excluded
    )
