"""Which language a text is in, told by its characters alone."""

from __future__ import annotations

import re

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af]")
KANA_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")
LATIN = re.compile(r"[A-Za-z]")
WORD = re.compile(r"[A-Za-z0-9_'’]+|[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af]|[^\W\d_]+")


def language_of(text: str) -> str:
    """``zh``, ``en`` or ``other``.

    A Han character says about as much as four Latin letters, so a Chinese text that names English
    products stays Chinese. Other Latin-script languages count as ``en``; say so in the recipe.
    """
    head = text[:4000]
    han, latin = len(HAN.findall(head)), len(LATIN.findall(head))
    if len(KANA_HANGUL.findall(head)) > max(2, 0.1 * han):
        return "other"
    letters = sum(map(str.isalpha, head))
    if letters == 0 or han + latin < 0.5 * letters:
        return "other"
    return "zh" if han * 4 >= latin else "en"


def words_of(text: str) -> list[str]:
    """English words and single Han characters, lower-cased, in order."""
    return WORD.findall(text.lower())
