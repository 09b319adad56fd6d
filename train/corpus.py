"""The training data: plain documents for PT and (prompt, reply) pairs for SFT."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import arithmetic as ar
import chat
import essays
import facts
import news
import parallel as pa
from hanzi import LEVEL_1
from overlap import evaluation_texts, overlaps

Turn = tuple[str, str]
CMATH_TAIL = "\n请一步一步计算，最后一行写“答案：”和结果。"


def choice(rng: Random, shots: int = 0) -> Turn:
    return facts.choice_document(rng, shots)


def gsm8k(rng: Random) -> Turn:
    p = ar.make_problem(rng)
    return f"Question: {p.en}\nAnswer:", " " + ar.gsm8k_answer(p)


def mgsm_zh(rng: Random) -> Turn:
    p = ar.make_problem(rng)
    return f"问题：{p.zh}\n逐步解答：", ar.mgsm_zh(p)


def mgsm_en(rng: Random) -> Turn:
    p = ar.make_problem(rng)
    return f"Question: {p.en}\nStep-by-Step Answer:", " " + ar.mgsm_en(p)


def cmath(rng: Random) -> Turn:
    p = ar.make_problem(rng)
    return p.zh + CMATH_TAIL, ar.cmath_reply(p)


def to_english(rng: Random) -> Turn:
    zh, en = pa.sentence_pair(rng)
    return pa.chinese_prompt(zh), en


def to_chinese(rng: Random) -> Turn:
    zh, en = pa.sentence_pair(rng)
    return pa.english_prompt(en), zh


def summary(rng: Random) -> Turn:
    text, line, _ = news.article(rng)
    return news.summary_prompt(text), line


def topic(rng: Random) -> Turn:
    text, label = news.topic_text(rng)
    return news.topic_prompt(text), label


def copy(rng: Random) -> Turn:
    """Copy something out: the skill behind translation, summaries and entities."""
    texts: list[Callable[[], str]] = [
        lambda: "、".join(
            rng.choice([news.person, news.org, news.date])(rng) for _ in range(rng.randint(2, 5))
        ),
        lambda: news.entity_sentence(rng)[0],
        lambda: pa.sentence_pair(rng)[rng.randrange(2)],
        lambda: "".join(rng.sample(LEVEL_1, rng.randint(4, 12))),
    ]
    text = rng.choice(texts)()
    return rng.choice(["请把下面的内容原样抄写一遍：{}", "重复这句话：{}", "请抄写：\n{}"]).format(
        text
    ), text


def entities(rng: Random) -> Turn:
    text, found = news.entity_sentence(rng)
    return news.entity_prompt(text), found


TASKS: dict[str, Callable[[Random], Turn]] = {
    "choice": choice,
    "gsm8k": gsm8k,
    "mgsm_zh": mgsm_zh,
    "mgsm_en": mgsm_en,
    "cmath": cmath,
    "to_english": to_english,
    "to_chinese": to_chinese,
    "summary": summary,
    "topic": topic,
    "entities": entities,
    "copy": copy,
    "open": chat.open_turn,
}
SFT_WEIGHTS = {
    "choice": 10,
    "gsm8k": 5,
    "mgsm_zh": 6,
    "mgsm_en": 4,
    "cmath": 15,
    "to_english": 13,
    "to_chinese": 13,
    "summary": 7,
    "topic": 6,
    "entities": 12,
    "copy": 6,
    "open": 16,
}


def few_shot(rng: Random, task: Callable[[Random], Turn], shots: int) -> str:
    """Join worked examples of one task with blank lines."""
    return "\n\n".join(prompt + reply for prompt, reply in (task(rng) for _ in range(shots + 1)))


def _plain(rng: Random) -> str:
    """A page of sentences of one kind, without any instruction."""
    kind = rng.randrange(7)
    several = range(rng.randint(3, 8))
    if kind == 0:
        return "".join(pa.sentence_pair(rng)[0] for _ in several)
    if kind == 1:
        return " ".join(pa.sentence_pair(rng)[1] for _ in several)
    if kind == 2:
        return "\n".join(" ".join(pa.sentence_pair(rng)) for _ in several)
    if kind == 3:
        return "\n".join(" ".join(pa.word_pair(rng)) for _ in range(12))
    if kind == 4:
        return "".join(facts.statement(rng) for _ in several)
    if kind == 5:
        return "\n".join(f"{ar.zh_sum(s)}={v}" for s, v in (ar.drill(rng) for _ in range(15)))
    text, _, label = news.article(rng)
    return f"【{label}】{text}"


def _copies(rng: Random) -> str:
    """Something said twice: practice in looking back, which every task needs."""
    kind = rng.randrange(4)
    if kind == 0:
        parts = ["".join(rng.sample(LEVEL_1, rng.randint(2, 4))) for _ in range(rng.randint(3, 12))]
    elif kind == 1:
        parts = [str(rng.randint(0, 999)) for _ in range(rng.randint(4, 15))]
    elif kind == 2:
        parts = [
            rng.choice([news.person, news.org, news.date])(rng) for _ in range(rng.randint(3, 8))
        ]
    else:
        parts = [rng.choice(pa.word_pair(rng)) for _ in range(rng.randint(3, 12))]
    row = rng.choice(["，", " ", "、", "\n"]).join(parts)
    again = rng.choice([row, row, "\n".join(parts)])
    return f"{row}\n{again}" if rng.random() < 0.7 else f"“{row}”：{again}"


def _labelled(rng: Random) -> str:
    """Tasks written as natural documents, not in the evaluation layouts."""
    kind = rng.randrange(5)
    if kind == 0:
        return "\n".join(
            f"{label}新闻：{text}" for text, label in (news.topic_text(rng) for _ in range(4))
        )
    if kind == 1:
        return "\n".join(
            f"{text}（{found}）" for text, found in (news.entity_sentence(rng) for _ in range(4))
        )
    if kind == 2:
        text, line, _ = news.article(rng)
        return f"{line}\n{text}"
    if kind == 3:
        return "\n".join(f"{p.zh}{ar.mgsm_zh(p)}" for p in (ar.make_problem(rng) for _ in range(3)))
    turns = [chat.open_turn(rng) for _ in range(2)]
    return "\n\n".join(f"问：{q}\n答：{a}" for q, a in turns)


PT_LAYOUTS = [
    "choice",
    "choice",
    "gsm8k",
    "mgsm_zh",
    "mgsm_en",
    "cmath",
    "to_english",
    "to_chinese",
    "entities",
    "topic",
    "summary",
]


def pt_document(rng: Random, copies: bool = True) -> str:
    """Draw one PT document; the documents that say something twice can be left out."""
    kind = rng.random()
    if copies and kind < 0.09:
        return _copies(rng)
    if kind < 0.35:
        return _plain(rng)
    if kind < (0.50 if copies else 0.53):
        return _labelled(rng)
    name = rng.choice(PT_LAYOUTS)
    if name == "choice" and rng.random() < 0.25:
        return "\n\n".join(
            facts.choice_block(c, 1) + c.letter for c in (facts.same_choice(rng) for _ in range(4))
        )
    if name == "choice":
        return "".join(choice(rng, rng.choice([0, 1, 2, 3, 5, 5])))
    return few_shot(rng, TASKS[name], rng.choice([0, 0, 1, 2, 4]))


def sft_pair(rng: Random, name: str | None = None) -> Turn:
    """Draw one (prompt, reply) pair; few-shot tasks get 0 to 5 worked examples."""
    name = name or rng.choices(list(SFT_WEIGHTS), list(SFT_WEIGHTS.values()))[0]
    if name == "choice":
        prompt, reply = choice(rng, rng.choice([0, 0, 0, 1, 2, 5]))
    elif name == "open" and rng.random() < 0.5:
        prompt, reply = essays.long_turn(rng)
    else:
        prompt, reply = TASKS[name](rng)
        if name in ("gsm8k", "mgsm_zh", "mgsm_en"):
            shots = rng.choice([0, 0, 0, 0, 0, 1, 2, 5])
            if shots:
                prompt = few_shot(rng, TASKS[name], shots - 1) + "\n\n" + prompt
    return prompt, reply.strip()


def pt_documents(seed: int, copies: bool = True) -> Iterator[str]:
    """Yield PT documents for ever, without the texts of evaluation items."""
    rng, banned = Random(seed), evaluation_texts()
    while True:
        text = pt_document(rng, copies)
        if not overlaps(text, banned):
            yield text


def sft_pairs(seed: int) -> Iterator[Turn]:
    """Yield SFT pairs for ever, without the texts of evaluation items."""
    rng, banned = Random(seed), evaluation_texts()
    while True:
        prompt, reply = sft_pair(rng)
        if not overlaps(prompt, banned):
            yield prompt, reply


def main() -> None:
    """Print a few documents and pairs to look at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write JSON lines here instead of printing")
    args = parser.parse_args()
    documents, pairs = pt_documents(args.seed), sft_pairs(args.seed)
    rows: list[dict[str, str]] = [{"text": next(documents)} for _ in range(args.count)]
    rows += [{"prompt": p, "reply": r} for p, r in (next(pairs) for _ in range(args.count))]
    if args.out:
        args.out.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
    else:
        for row in rows:
            print("-" * 20, *row.values(), sep="\n")


if __name__ == "__main__":
    main()
