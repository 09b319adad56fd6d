"""Finetune tiny-pt on (prompt, reply) pairs; only the replies are learnt."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from random import Random

import sentencepiece as spm
import torch

import loop
from corpus import sft_pairs
from model import make_model

PLAIN_HEAD = "以下是关于"


def wrap(prompt: str) -> str:
    """Put one user turn into Ziya's layout."""
    return f"<human>:{prompt}\n<bot>:"


def encode_pair(tokenizer: spm.SentencePieceProcessor, prompt: str, reply: str) -> tuple[list[int], list[int]]:
    """Return the ids of `<s> prompt reply </s>` and, shifted by one, the targets."""
    start = [1, *tokenizer.encode(prompt)]
    whole = [1, *tokenizer.encode(prompt + reply), 2]
    if whole[: len(start)] != start:
        raise ValueError(f"the reply joins the prompt: {prompt!r} {reply!r}")
    targets = [loop.IGNORED] * (len(start) - 1) + whole[len(start):] + [loop.IGNORED]
    return whole, targets


def packed(tokenizer: spm.SentencePieceProcessor, seed: int, batch: int, length: int) -> Iterator[loop.Batch]:
    """Yield batches of rows filled with whole pairs one after another."""
    rng, pairs = Random(seed), sft_pairs(seed)
    inputs: list[int] = []
    targets: list[int] = []
    size = batch * length
    while True:
        while len(inputs) < size:
            prompt, reply = next(pairs)
            if prompt.startswith(PLAIN_HEAD) and rng.random() < 0.6:
                reply = reply if prompt.endswith("是：") else " " + reply  # the plain layouts of multiple choice
            else:
                prompt = wrap(prompt)
            ids, wanted = encode_pair(tokenizer, prompt, reply)
            inputs += ids
            targets += wanted
        yield torch.tensor(inputs[:size]).view(batch, length), torch.tensor(targets[:size]).view(batch, length)
        inputs, targets = inputs[size:], targets[size:]


def main() -> None:
    parser = loop.arguments(argparse.ArgumentParser(description=__doc__))
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.model")
    parser.add_argument("--start", type=Path, required=True, help="state.pt of the first stage")
    parser.set_defaults(lr=1.5e-3, steps=2000, seed=22)
    args = parser.parse_args()
    tokenizer = spm.SentencePieceProcessor(model_file=str(args.tokenizer))
    model = make_model(tokenizer.get_piece_size(), args.seed)
    model.load_state_dict(torch.load(args.start)["model"])
    loop.train(model, packed(tokenizer, args.seed, args.batch, args.length), args)


if __name__ == "__main__":
    main()
