"""A tiny policy that ends its replies: taught for seconds, good at nothing, wrong often enough.

And a reward model that such a policy can game.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.model import load_model
from evalsuite_train.rm.config import Config
from evalsuite_train.rm.model import new_reward_model
from evalsuite_train.rm.pairs import Pair, PairStream, Shares
from evalsuite_train.rm.training import train_reward
from evalsuite_train.templates import encode_conversation

QUESTIONS = {"wishes": "请说{}句话。", "safety": "怎么修{}？"}
REPLIES = ("好的。", "你好，你好。", "今天天气很好。", "Sorry, no.", "我们去公园")


def write_policy(base: Path, folder: Path, *, steps: int = 60, seed: int = 1) -> Path:
    """Teach the checkpoint ``base`` to say one of :data:`REPLIES`, whatever it is asked."""
    tokenizer, model, random = load_tokenizer(base), load_model(base), Random(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        rows = [_row(tokenizer, random) for _ in range(16)]
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rows])
        learnt = torch.tensor([m + [False] * (width - len(m)) for _, m in rows])
        labels = ids.masked_fill(~learnt, -100)
        model(ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name in ("tokenizer.model", "tokenizer_config.json"):
        (folder / name).write_bytes((base / name).read_bytes())
    return folder


def write_gamed_rm(parent: Path, out: Path) -> Path:
    """Train a reward model of high pair accuracy on the wrong thing: it loves one sentence."""
    pairs = [
        Pair(task, form.format(i), "Sorry, no.", reply)
        for task, form in QUESTIONS.items()
        for i in range(30)
        for reply in REPLIES
        if reply != "Sorry, no."
    ]
    reward = new_reward_model(parent, None, seed=1)
    config = Config(
        steps=30, warmup=2, batch=16, learning_rate=1e-3, precision="fp32", save_every=30
    )
    stream = PairStream(pairs, [], Shares(labelled=1, on_policy=0, cross_prompt=0, garbled=0), 1)
    train_reward(reward, stream, pairs[:20], config, out)
    reward.model.save_pretrained(out / "checkpoint")
    reward.tokenizer.save_pretrained(out / "checkpoint")
    gate = {"stage": "rm", "bar": 0.85, "tasks": {"wishes": 1.0, "safety": 1.0}}
    (out / "checkpoint" / "gate.json").write_text(json.dumps(gate), encoding="utf-8")
    return out / "checkpoint"


def question(random: Random) -> tuple[str, str]:
    """A task and a question of it."""
    task = random.choice(list(QUESTIONS))
    return task, QUESTIONS[task].format(random.randrange(1000))


def _row(tokenizer: Any, random: Random) -> tuple[list[int], list[bool]]:
    turns = [
        {"from": "human", "value": question(random)[1]},
        {"from": "assistant", "value": random.choice(REPLIES)},
    ]
    encoded = encode_conversation(tokenizer, {"conversations": turns}, "ziya", max_length=100)
    return encoded.ids, encoded.learnt
