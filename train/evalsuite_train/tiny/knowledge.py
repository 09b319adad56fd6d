"""Questions with four options over facts that the question states."""

from __future__ import annotations

from random import Random

from evalsuite_train.tiny.item import Item, Language
from evalsuite_train.tiny.lexicon import CATEGORIES, NAMES

LETTERS = "ABCD"


def knowledge(rng: Random) -> Item:
    """Two people like two things; who likes what is asked, with options or openly."""
    language: Language = rng.choice(("zh", "en"))
    place = 0 if language == "zh" else 1
    (category, words) = rng.choice(list(CATEGORIES.items()))
    people = rng.sample(NAMES, 2)
    chosen = rng.sample(words, 4)
    facts = list(zip([p[place] for p in people], [w[place] for w in chosen], strict=False))
    asked, answer = rng.choice(facts)
    if language == "zh":
        stated = "".join(f"{who}喜欢{what}。" for who, what in facts)
        question = f"{stated}{asked}喜欢哪种{category[0]}？"
    else:
        stated = " ".join(f"{who} likes {what}." for who, what in facts)
        question = f"{stated} Which of the {category[1]} does {asked} like?"
    content = f"{'/'.join(sorted(w[0] for w in chosen))}|{asked}|{answer}"
    if rng.random() < 0.35:
        reply = f"{asked}喜欢{answer}。" if language == "zh" else f"{asked} likes {answer}."
        return Item(
            task="knowledge",
            language=language,
            prompt=question,
            reply=reply,
            rules=({"type": "exactly", "values": [reply]},),
            content=f"open|{content}",
            document=f"{question}\n{reply}",
        )
    options = [w[place] for w in rng.sample(chosen, 4)]
    letter = LETTERS[options.index(answer)]
    listed = "\n".join(f"{a}. {b}" for a, b in zip(LETTERS, options, strict=True))
    label = "答案：" if language == "zh" else "Answer:"
    prompt = f"{question}\n{listed}\n{label}"
    return Item(
        task="knowledge",
        language=language,
        prompt=prompt,
        reply=letter,
        rules=({"type": "exactly", "values": [letter]},),
        content=content,
        document=f"{prompt}{letter}. {answer}",
        fields={"question": question, "label": label, "options": options, "answer": letter},
    )
