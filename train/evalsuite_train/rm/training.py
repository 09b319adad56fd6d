"""The reward model's training: pairs of like length, the pair loss, resumable at any moment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from evalsuite_train.curves import Log
from evalsuite_train.errors import Diverged
from evalsuite_train.gates import check_settings
from evalsuite_train.optimiser import adamw
from evalsuite_train.processes import Processes
from evalsuite_train.rm.accuracy import pair_accuracy
from evalsuite_train.rm.config import Config
from evalsuite_train.rm.loss import bradley_terry
from evalsuite_train.rm.model import RewardModel, pooled
from evalsuite_train.rm.pairs import Pair, PairStream
from evalsuite_train.schedule import rate
from evalsuite_train.sharding import (
    number,
    optimiser_state,
    own_weights,
    put_optimiser_state,
    put_weights,
)
from evalsuite_train.state import load_state, save_state

POOL = 8  # steps whose pairs are sorted by length together


def train_reward(
    reward: RewardModel, stream: PairStream, held_out: Sequence[Pair], config: Config, out: Path
) -> None:
    """Train ``reward`` in place for ``config.steps`` steps; goes on from ``out/state.pt``.

    Every pair is asked for by its number, so a resumed run takes the pairs the other would have.

    Raises:
        Diverged: the loss is not a number.
        TrainError: the saved state is one of other settings.
    """
    model, processes, log = reward.model, reward.processes, Log(out / "log.jsonl")
    log.silent = not processes.first
    optimiser = adamw(model, config)
    settings = {"seed": stream.seed, **msgspec.to_builtins(config)}
    step = _resume(model, optimiser, log, out, settings, processes)
    autocast = torch.bfloat16 if config.precision == "bf16" else None
    started, begun = time.monotonic(), step
    while step < config.steps:
        for group in optimiser.param_groups:
            group["lr"] = rate(step, config)
        seen = torch.zeros(2)
        model.train()
        for micro in processes.own(_micro_batches(stream, step, config, processes.size)):
            part, right = _loss(reward, micro, autocast)
            (part / config.accumulation).backward()  # type: ignore[no-untyped-call]
            seen += torch.tensor([part.item(), right]) / config.accumulation
        loss, accuracy = (processes.sum(seen) / processes.size).tolist()
        norm = number(torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip))
        model.eval()
        if not norm < float("inf"):
            raise Diverged(
                f"the loss is {loss}, the gradient's norm {norm}",
                where=f"{out}, step {step + 1}",
                hint="lower learning_rate; the last saved state still stands",
            )
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        if step % config.log_every == 0 or step == config.steps:
            pairs = config.batch * config.accumulation * processes.size * (step - begun)
            pace = pairs / (time.monotonic() - started)
            row = {"loss": loss, "accuracy": accuracy, "norm": norm, "pairs_per_second": pace}
            log.write({"step": step, **{key: round(value, 4) for key, value in row.items()}})
        if step % config.save_every == 0 or step == config.steps:
            log.write({"step": step, "validation": pair_accuracy(reward, held_out)["tasks"]})
            _save(model, optimiser, log, out, settings, step, processes)


def _resume(
    model: Any,
    optimiser: torch.optim.Optimizer,
    log: Log,
    out: Path,
    settings: dict[str, Any],
    processes: Processes,
) -> int:
    state = load_state(out, processes)
    if state is None:
        log.back_to(0)
        return 0
    check_settings(state, settings, out)
    put_weights(model, state["model"])
    put_optimiser_state(optimiser, state["optimiser"])
    log.back_to(state["log"])
    return int(state["step"])


def _save(
    model: Any,
    optimiser: torch.optim.Optimizer,
    log: Log,
    out: Path,
    settings: dict[str, Any],
    step: int,
    processes: Processes,
) -> None:
    save_state(
        out,
        {
            "step": step,
            "position": step,
            "settings": settings,
            "model": own_weights(model),
            "optimiser": optimiser_state(optimiser),
            "log": log.size(),
        },
        processes,
    )


def _micro_batches(
    stream: PairStream, step: int, config: Config, processes: int
) -> list[list[Pair]]:
    """The pairs of a step: of the next eight steps' pairs, sorted by length, those of one place."""
    size = config.batch * config.accumulation * processes
    first = step - step % POOL
    pool = [stream[n] for n in range(first * size, (first + POOL) * size)]
    pool.sort(key=lambda pair: len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)))
    order = torch.randperm(POOL, generator=torch.Generator().manual_seed(stream.seed + first))
    start = int(order[step - first]) * size
    return [pool[at : at + config.batch] for at in range(start, start + size, config.batch)]


def _loss(
    reward: RewardModel, pairs: Sequence[Pair], autocast: torch.dtype | None
) -> tuple[Tensor, float]:
    rows = [reward.encode(pair.prompt, pair.chosen) for pair in pairs]
    rows += [reward.encode(pair.prompt, pair.rejected) for pair in pairs]
    chosen, rejected = pooled(reward.model, rows, autocast=autocast).chunk(2)
    return bradley_terry(chosen, rejected), (chosen > rejected).float().mean().item()
