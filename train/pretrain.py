"""Train tiny-pt from scratch on packed documents."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import loop
import sentencepiece as spm
import torch
from corpus import pt_documents
from model import count_parameters, make_model


def packed(
    tokenizer: spm.SentencePieceProcessor, seed: int, batch: int, length: int, copies: bool
) -> Iterator[loop.Batch]:
    """Yield batches cut from one endless row of `<s> document </s>`."""
    documents = pt_documents(seed, copies)
    row: list[int] = []
    size = batch * length
    while True:
        while len(row) < size + 1:
            row += [1, *tokenizer.encode(next(documents)), 2]
        ids = torch.tensor(row[: size + 1])
        row = row[size:]
        yield ids[:-1].view(batch, length), ids[1:].view(batch, length)


def main() -> None:
    parser = loop.arguments(argparse.ArgumentParser(description=__doc__))
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.model")
    parser.add_argument(
        "--start", type=Path, help="state.pt of an earlier phase, to start from its weights"
    )
    parser.add_argument(
        "--no-copies", action="store_true", help="leave out the documents that say something twice"
    )
    parser.set_defaults(lr=3e-3, steps=5000, seed=11)
    args = parser.parse_args()
    tokenizer = spm.SentencePieceProcessor(model_file=str(args.tokenizer))
    model = make_model(tokenizer.get_piece_size(), args.seed)
    if args.start:
        model.load_state_dict(torch.load(args.start)["model"])
    print("parameters", count_parameters(model), flush=True)
    batches = packed(tokenizer, args.seed, args.batch, args.length, not args.no_copies)
    loop.train(model, batches, args)


if __name__ == "__main__":
    main()
