"""What DPO, GRPO and RLOO share: settings, trl's arguments made from them, and the run itself."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from transformers import TrainerCallback

from evalsuite_train.alternatives.states import STATE, TrlStates
from evalsuite_train.checkpoint import load_tokenizer, read_card, write_checkpoint
from evalsuite_train.disk import writing
from evalsuite_train.errors import BadRecipe, Diverged, TrainError
from evalsuite_train.feedback.rows import write_jsonl
from evalsuite_train.generation import derived_seed
from evalsuite_train.precision import settle
from evalsuite_train.processes import leads, leave_to_first
from evalsuite_train.recipe import Recipe
from evalsuite_train.sft.parent import weights_digest
from evalsuite_train.templates import TEMPLATES

FREE = ("save_every", "log_every", "device", "guards")
"""Settings that may change when a training goes on: they change nothing of what is learnt."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings that the three methods share.

    Attributes:
        parent: the section or folder of the SFT checkpoint: start and reference.
        template: the parent's prompt template.
        batch: sequences a micro-batch; ``accumulation`` micro-batches a step.
        schedule: the way down of the learning rate after ``warmup`` steps.
        precision: of the matrix products; the weights are float32. ``auto`` is bf16 where the device
            multiplies it fast, else fp32.
        save_every: steps between two states that a killed stage goes on from.
    """

    parent: str = "sft"
    template: str = "ziya"
    steps: int = 200
    learning_rate: float = 1e-5
    warmup: int = 10
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = 0.0
    clip: float = 1.0
    batch: int = 32
    accumulation: int = 1
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    gradient_checkpointing: bool = False
    device: Literal["auto", "cpu"] = "auto"
    save_every: int = 100
    log_every: int = 10

    def __post_init__(self) -> None:
        settle(self)
        for name in ("steps", "batch", "accumulation", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if not (0 < self.learning_rate < math.inf and self.clip > 0 and self.warmup >= 0):
            raise ValueError("learning_rate and clip must be above 0, warmup at least 0")


def arguments(settings: Settings, out: Path, seed: int) -> dict[str, Any]:
    """The part of a trl configuration that is the same for all three.

    In transformers 5 ``evaluation_strategy``, ``overwrite_output_dir`` and ``Trainer(tokenizer=)``
    are gone: it is ``eval_strategy``, nothing, and ``processing_class``.
    """
    schedule = {"constant": "constant_with_warmup"}.get(settings.schedule, settings.schedule)
    return {
        "output_dir": str(out / STATE),
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup,
        "lr_scheduler_type": schedule,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.clip,
        "per_device_train_batch_size": settings.batch,
        "gradient_accumulation_steps": settings.accumulation,
        "bf16": settings.precision == "bf16",
        "gradient_checkpointing": settings.gradient_checkpointing,
        "use_cpu": settings.device == "cpu" or not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "eval_strategy": "no",
        "save_strategy": "steps",
        "save_steps": settings.save_every,
        "save_total_limit": 2,
        "logging_steps": settings.log_every,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "seed": seed,
    }


def open_tokenizer(folder: Path) -> Any:
    """The parent's tokenizer, padding with <unk>: trl would else take EOS, which ends a reply.

    Raises:
        BadRecipe: there is nothing but EOS to pad with.
    """
    tokenizer = load_tokenizer(folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        raise BadRecipe(
            "the tokenizer has nothing to pad with but EOS",
            where=str(folder),
            hint="give it an unk_token or a pad_token of its own",
        )
    return tokenizer


def seed_of(recipe: Recipe, out: Path) -> int:
    """The section's own seed."""
    return derived_seed(recipe.seed, out.name)


def claim(settings: Settings, recipe: Recipe, out: Path, rows: Iterable[Any]) -> None:
    """Note that the states in ``out`` are those of these settings, parent and ``rows``.

    Raises:
        TrainError: an unfinished training of others stands there.
    """
    weights = weights_digest(recipe.parent(settings.parent))
    content = {"rows trained on": _digest(rows), "parent's weights": weights}
    TrlStates(out / STATE).claim({"seed": recipe.seed, **content, **_lasting(settings)})


def train(trainer: Any, out: Path) -> int:
    """Train with trl, going on from its last whole state; returns the steps done. Writes ``log.jsonl``.

    Raises:
        Diverged: weights that are not finite; what was saved of this training is removed.
        TrainError: a full disk.
    """
    states = TrlStates(out / STATE)
    trainer.add_callback(_Log(out / "log.jsonl"))
    broken = False
    try:
        with writing(states.folder):
            trainer.train(resume_from_checkpoint=states.last())
    except (RuntimeError, Diverged) as fault:
        if _finite(trainer) and "probability tensor contains" not in str(fault):
            raise
        broken = True
    done = int(trainer.state.global_step)
    if broken or not _finite(trainer):
        states.remove()  # nothing to go on from: the numbers in it may be broken as well
        hint = "lower the learning rate; where it is step 0, the parent itself is damaged"
        what = "weights or probabilities are not finite"
        raise Diverged(what, where=f"{out}, step {done}", hint=hint)
    return done


def write(
    trainer: Any,
    model: Any,
    original: Any,
    settings: Settings,
    recipe: Recipe,
    out: Path,
    *,
    step: int,
    alarm: str = "",
    files: dict[str, str] | None = None,
) -> None:
    """Write the checkpoint, and remove trl's states; of several processes the first does it.

    Args:
        original: what :func:`configurations` gave before trl changed the model's.
        step: that of the weights.
        alarm: why the training was stopped early; without one every step has to be there.
        files: further files of the checkpoint.

    Raises:
        TrainError: a full disk, or steps that were not trained.
    """
    if step < settings.steps and not alarm:
        raise TrainError(
            f"only {step} of {settings.steps} steps were trained",
            where=str(out),
            hint="a batch needs more prompts or pairs than there are: lower batch or accumulation",
        )
    leave_to_first()
    parent = recipe.parent(settings.parent)
    model.config, model.generation_config = original
    write_checkpoint(
        out / "checkpoint",
        trainer.accelerator.unwrap_model(trainer.model).eval(),
        tokenizer=parent,
        recipe=recipe,
        section=out.name,
        step=step,
        parent=read_card(parent).get("name"),
        template=TEMPLATES[settings.template].chat_template,
        files=files,
    )
    TrlStates(out / STATE).remove()


def _lasting(settings: Settings) -> dict[str, Any]:
    return {k: v for k, v in msgspec.to_builtins(settings).items() if k not in FREE}


def _digest(rows: Iterable[Any]) -> str:
    """A sha256 over the rows that are trained on."""
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return total.hexdigest()


def _finite(trainer: Any) -> bool:
    trained = trainer.accelerator.unwrap_model(trainer.model)
    return all(bool(torch.isfinite(p).all()) for p in trained.parameters())


def configurations(model: Any) -> tuple[Any, Any]:
    """Copies of the model's configurations: trl writes its padding token into them."""
    return copy.deepcopy(model.config), copy.deepcopy(model.generation_config)


class _Log(TrainerCallback):  # type: ignore[misc]
    """Writes the trainer's history as JSONL, whole, so that a resumed one has no row twice.

    A gradient that is no number ends the training here: what follows could only be thrown away.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if leads():
            write_jsonl(self._file, state.log_history)
        if not math.isfinite(state.log_history[-1].get("grad_norm", 0.0)):
            where = f"{self._file.parent}, step {state.global_step}"
            raise Diverged("the gradient is no number", where=where, hint="lower the learning rate")
