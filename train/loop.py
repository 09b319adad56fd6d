"""The training loop shared by the two stages."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

# inputs and targets of shape (batch, length); a target of -100 is not learnt
Batch = tuple[torch.Tensor, torch.Tensor]
IGNORED = -100


def arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options both stages have."""
    parser.add_argument("--out", type=Path, required=True, help="folder for state.pt and log.jsonl")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--warmup", type=int, default=150)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--stop", type=int, help="stop after this many steps of the schedule")
    parser.add_argument(
        "--minutes",
        type=float,
        default=1e9,
        help="stop, with the learning rate brought down, after this long",
    )
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--compile", action="store_true", help="compile the decoder (needs a C++ compiler)"
    )
    return parser


def rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to a twentieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def loss_of(model: LlamaForCausalLM, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy, taken over slices to keep the logits small."""
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state.flatten(0, 1)
    wanted = targets.flatten()
    kept = wanted != IGNORED
    hidden, wanted = hidden[kept], wanted[kept]
    parts = [
        functional.cross_entropy(model.lm_head(h).float(), w, reduction="sum")
        for h, w in zip(torch.split(hidden, 512), torch.split(wanted, 512), strict=True)
    ]
    return torch.stack(parts).sum() / max(1, wanted.numel())


def optimizer_for(model: LlamaForCausalLM) -> torch.optim.AdamW:
    """AdamW, with weight decay on the matrices only."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
        lr=0.0,
        betas=(0.9, 0.98),
    )


def save(
    path: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, step: int, tokens: int
) -> None:
    """Write everything needed to go on, replacing the old file at once."""
    temporary = path.with_suffix(".new")
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "tokens": tokens,
        },
        temporary,
    )
    temporary.replace(path)


def train(model: LlamaForCausalLM, batches: Iterator[Batch], args: argparse.Namespace) -> None:
    """Train for `args.steps` steps; log to log.jsonl and save to state.pt."""
    torch.set_num_threads(2)
    args.out.mkdir(parents=True, exist_ok=True)
    state_file, optimizer = args.out / "state.pt", optimizer_for(model)
    first, tokens = 0, 0
    if args.resume and state_file.exists():
        state = torch.load(state_file)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, tokens = state["step"], state["tokens"]
        for _ in range(first):
            next(batches)
    if args.compile:
        model.model.compile()
    started, total, steps, done = time.time(), 0.0, args.steps, first
    model.train()
    with (args.out / "log.jsonl").open("a", encoding="utf-8") as log:
        for step in range(first, args.steps):
            used = (time.time() - started) / 60
            if step % 20 == 0 and step > first + 40:
                steps = min(args.steps, int(first + (step - first) * args.minutes / used))
            if step >= steps or step == args.stop:
                break
            for group in optimizer.param_groups:
                group["lr"] = rate(step, steps, args.warmup, args.lr)
            inputs, targets = next(batches)
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(model, inputs, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            tokens += int((targets != IGNORED).sum())
            total += loss.item()
            if (step + 1) % 20 == 0:
                row = {
                    "step": step + 1,
                    "of": steps,
                    "loss": round(total / 20, 4),
                    "norm": round(float(norm), 3),
                    "lr": round(optimizer.param_groups[0]["lr"], 6),
                    "tokens": tokens,
                    "seconds": round(time.time() - started, 1),
                }
                print(json.dumps(row), flush=True)
                log.write(json.dumps(row) + "\n")
                log.flush()
                total = 0.0
            done = step + 1
            if done % args.save_every == 0:
                save(state_file, model, optimizer, done, tokens)
        save(state_file, model, optimizer, done, tokens)
