"""What DPO, GRPO and RLOO share: settings, trl's arguments made from them, and the run itself."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from evalsuite_train.checkpoint import load_tokenizer, read_card, write_checkpoint
from evalsuite_train.errors import BadRecipe, Diverged
from evalsuite_train.feedback.rows import write_jsonl
from evalsuite_train.generation import derived_seed
from evalsuite_train.recipe import Recipe
from evalsuite_train.templates import TEMPLATES

STATE = "state-trl"
"""trl's own resumable checkpoints, in the section's folder until the stage has finished."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings that the three methods share.

    Attributes:
        parent: the section or folder of the SFT checkpoint: start and reference.
        template: the parent's prompt template.
        batch: sequences a micro-batch; ``accumulation`` micro-batches a step.
        schedule: the way down of the learning rate after ``warmup`` steps.
        precision: of the matrix products; the weights are float32.
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
    precision: Literal["bf16", "fp32"] = "bf16"
    gradient_checkpointing: bool = False
    device: Literal["auto", "cpu"] = "auto"
    save_every: int = 100
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulation", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")


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


def run_trainer(
    trainer: Any, model: Any, original: Any, settings: Settings, recipe: Recipe, out: Path
) -> None:
    """Train with trl, going on from its last state, and write the checkpoint and the log.

    Args:
        original: what :func:`configurations` gave before trl changed the model's.

    Raises:
        Diverged: weights that are not finite.
    """
    trainer.add_callback(_Log(out / "log.jsonl"))
    last = get_last_checkpoint(str(out / STATE)) if (out / STATE).is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    trained = trainer.accelerator.unwrap_model(trainer.model).eval()
    if not all(bool(torch.isfinite(p).all()) for p in trained.parameters()):
        where = f"{out}, step {trainer.state.global_step}"
        raise Diverged("weights are not finite", where=where, hint="lower the learning rate")
    model.config, model.generation_config = original
    parent = recipe.parent(settings.parent)
    write_checkpoint(
        out / "checkpoint",
        trained,
        tokenizer=parent,
        recipe=recipe,
        section=out.name,
        step=int(trainer.state.global_step),
        parent=read_card(parent).get("name"),
        template=TEMPLATES[settings.template].chat_template,
    )
    shutil.rmtree(out / STATE, ignore_errors=True)


def configurations(model: Any) -> tuple[Any, Any]:
    """Copies of the model's configurations: trl writes its padding token into them."""
    return copy.deepcopy(model.config), copy.deepcopy(model.generation_config)


class _Log(TrainerCallback):  # type: ignore[misc]
    """Writes the trainer's history as JSONL, whole, so that a resumed one has no row twice."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        write_jsonl(self._file, state.log_history)
