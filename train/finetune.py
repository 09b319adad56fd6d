"""Finetune tiny-pt on (prompt, reply) pairs; only the replies are learnt."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import loop
import sentencepiece as spm
import torch
from corpus import sft_pairs
from model import make_model

PLAIN_HEAD = "以下是关于"


def wrap(prompt: str) -> str:
    """Put one user turn into Ziya's layout."""
    return f"<human>:{prompt}\n<bot>:"


def encode_pair(
    tokenizer: spm.SentencePieceProcessor, prompt: str, reply: str
) -> tuple[list[int], list[int]]:
    """Return the ids of `<s> prompt reply </s>` and, shifted by one, the targets."""
    start = [1, *tokenizer.encode(prompt)]
    whole = [1, *tokenizer.encode(prompt + reply), 2]
    if whole[: len(start)] != start:
        raise ValueError(f"the reply joins the prompt: {prompt!r} {reply!r}")
    targets = [loop.IGNORED] * (len(start) - 1) + whole[len(start) :] + [loop.IGNORED]
    return whole, targets


def encoded_pairs(
    tokenizer: spm.SentencePieceProcessor, seed: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield pairs as ids and targets, in Ziya's layout or, for some multiple choice, plain."""
    rng = Random(seed)
    for prompt, reply in sft_pairs(seed):
        if prompt.startswith(PLAIN_HEAD) and rng.random() < 0.6:
            yield encode_pair(tokenizer, prompt, reply if prompt.endswith("是：") else " " + reply)
        else:
            yield encode_pair(tokenizer, wrap(prompt), reply)


def packed(
    tokenizer: spm.SentencePieceProcessor, seed: int, batch: int, length: int
) -> Iterator[loop.Batch]:
    """Yield batches of rows of whole pairs; three of four batches have twice as many rows of half the length."""
    pairs = encoded_pairs(tokenizer, seed)
    pool: list[tuple[list[int], list[int]]] = []
    index = 0
    while True:
        rows, width = (batch, length) if index % 4 == 3 else (2 * batch, length // 2)
        inputs, targets = (
            torch.zeros(rows, width, dtype=torch.long),
            torch.full((rows, width), loop.IGNORED),
        )
        for row in range(rows):
            at = 0
            while True:
                pool += [pair for pair in islice(pairs, 256 - len(pool)) if len(pair[0]) <= length]
                fitting = [pair for pair in pool if len(pair[0]) <= width - at]
                if not fitting:
                    break
                # the oldest pair opens a row, the longest ones that fit close it
                pair = fitting[0] if at < width // 2 else max(fitting, key=lambda p: len(p[0]))
                pool.remove(pair)
                inputs[row, at : at + len(pair[0])] = torch.tensor(pair[0])
                targets[row, at : at + len(pair[1])] = torch.tensor(pair[1])
                at += len(pair[0])
        yield inputs, targets
        index += 1


def main() -> None:
    parser = loop.arguments(argparse.ArgumentParser(description=__doc__))
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.model")
    parser.add_argument("--start", type=Path, required=True, help="state.pt of the first stage")
    parser.set_defaults(lr=2e-3, steps=2000, seed=22)
    args = parser.parse_args()
    tokenizer = spm.SentencePieceProcessor(model_file=str(args.tokenizer))
    model = make_model(tokenizer.get_piece_size(), args.seed)
    model.load_state_dict(torch.load(args.start)["model"])
    loop.train(model, packed(tokenizer, args.seed, args.batch, args.length), args)


if __name__ == "__main__":
    main()
