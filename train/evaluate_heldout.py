"""A rough look at a checkpoint on freshly generated items of every kind."""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import torch
from chat import CATEGORIES
from corpus import TASKS, sft_pair
from finetune import PLAIN_HEAD, wrap
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase


def generate(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: list[str], limit: int
) -> list[tuple[str, bool]]:
    """Continue prompts greedily; return (text, whether it ended by itself)."""
    found: list[tuple[str, bool]] = []
    for at in range(0, len(prompts), 32):
        rows = [tokenizer(p)["input_ids"] for p in prompts[at : at + 32]]
        width = max(map(len, rows))
        ids = torch.tensor([[2] * (width - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
        with torch.no_grad():
            out = model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=limit,
                do_sample=False,
                pad_token_id=2,
                max_length=None,
            )[:, width:]
        for row in out.tolist():
            ended = 2 in row
            found.append((str(tokenizer.decode(row[: row.index(2)] if ended else row)), ended))
    return found


def longest_common(a: str, b: str) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        new = [0]
        for j, y in enumerate(b):
            new.append(row[j] + 1 if x == y else max(row[j + 1], new[-1]))
        row = new
    return row[-1]


def overlap_f1(a: Counter[str], b: Counter[str]) -> float:
    """F1 of two bags."""
    both = sum((a & b).values())
    return 2 * both / (sum(a.values()) + sum(b.values())) if both else float(not a and not b)


def last_number(text: str) -> str | None:
    numbers = re.findall(r"-?\d+", text.replace(",", ""))
    return numbers[-1] if numbers else None


def score(name: str, got: str, want: str) -> float:
    """Score one reply between 0 and 1."""
    got = got.strip()
    if name in ("choice", "topic"):
        return float(got[: len(want)] == want)
    if name in ("gsm8k", "mgsm_zh", "mgsm_en", "cmath"):
        marks = {
            "gsm8k": "####",
            "mgsm_zh": "答案是",
            "mgsm_en": "The answer is",
            "cmath": "答案：",
        }
        tail = got.split(marks[name], 1)
        numbers = re.findall(r"-?\d+", tail[1]) if len(tail) > 1 else []
        return float(bool(numbers) and numbers[0] == last_number(want))
    line = got.split("\n")[0]
    if name == "entities":
        return overlap_f1(Counter(line.split("；")), Counter(want.split("；")))
    if name == "to_english":
        return overlap_f1(Counter(line.split()), Counter(want.split()))
    shared = longest_common(line, want.split("\n")[0])
    return 2 * shared / (len(line) + len(want.split("\n")[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--seed", type=int, default=987654)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=[*TASKS, *CATEGORIES])
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32).eval()
    chat = json.loads((args.folder / "evalsuite.json").read_text())["chat_template"] is not None
    for name in args.kinds:
        rng = Random(args.seed)
        pairs = [
            CATEGORIES[name](rng) if name in CATEGORIES else sft_pair(rng, name)
            for _ in range(args.count if name in TASKS else args.count // 4)
        ]
        prompts = [wrap(p) if chat and not p.startswith(PLAIN_HEAD) else p for p, _ in pairs]
        replies = generate(model, tokenizer, prompts, 3 if name == "choice" else 96)
        points = [
            score(name, got, want) for (got, _), (_, want) in zip(replies, pairs, strict=True)
        ]
        ended = sum(e for _, e in replies) / len(replies)
        print(
            f"{name:12} {sum(points) / len(points):.3f}  ended {ended:.2f}  n {len(points)}",
            flush=True,
        )
        for (prompt, want), (got, _) in list(zip(pairs, replies, strict=True))[: args.show]:
            print("   ", json.dumps([prompt[-80:], want, got], ensure_ascii=False))


if __name__ == "__main__":
    main()
