"""The training loop on several processes, optimiser (ZeRO-2) or also weights (ZeRO-3) shared out.

Rajbhandari et al. 2020, arXiv 1910.02054, as DeepSpeed implements it. Started by torchrun,
accelerate or deepspeed, one process a device.
"""

from __future__ import annotations

import json
import os
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evalsuite_train.errors import BadRecipe, TrainError
from evalsuite_train.files import write_whole
from evalsuite_train.loss import IGNORED, Batch, measure
from evalsuite_train.state import ZERO
from evalsuite_train.trainer import Training

PROGRESS = "progress.json"
WEIGHTS = "weights.bin"


class ZeroTraining(Training):
    """As :class:`Training`; the states are DeepSpeed's folders ``zero/global_stepN``."""

    def __init__(self, model: Any, *others: Any) -> None:
        import deepspeed

        if "WORLD_SIZE" not in os.environ:
            raise TrainError(
                "zero is for several processes, and this is a single one",
                where="zero",
                hint="torchrun --nproc-per-node 8 --no-python evalsuite-train STAGE --recipe FILE",
            )
        if (
            torch.cuda.is_available()
        ):  # each process on its own device, before anything is put there
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        super().__init__(model, *others)
        deepspeed.init_distributed(verbose=False)
        self.comm = deepspeed.comm
        self.rank, self.processes = int(self.comm.get_rank()), int(self.comm.get_world_size())
        self.taken = self.optimisation.accumulation * self.processes
        self.settings["processes"] = self.processes
        self.folder = self.out / ZERO
        if self.rank:
            self.log.silent = True
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=_Measured(model), optimizer=self.optimizer, config=self.configuration()
        )

    def configuration(self) -> dict[str, Any]:
        """The recipe's DeepSpeed configuration, its ``auto`` filled in from the recipe."""
        config = read_configuration(str(self.optimisation.zero))
        precision = self.optimisation.precision
        for name in ("bf16", "fp16"):
            if config.get(name, {}).get("enabled") == "auto":
                config[name]["enabled"] = precision == name
        automatic = {
            "train_micro_batch_size_per_gpu": 1,  # DeepSpeed needs a number; rows are the stream's
            "gradient_accumulation_steps": self.optimisation.accumulation,
            "gradient_clipping": self.optimisation.clip,
        }
        for name, value in automatic.items():
            if config.get(name, "auto") == "auto":
                config[name] = value
        config["zero_allow_untested_optimizer"] = True
        return config

    def next(self, stream: Any) -> Batch:
        """This process's share: one of every ``processes`` micro-batches."""
        batches: list[Batch] = []
        for _ in range(self.processes):
            batches.append(super().next(stream))
        return batches[self.rank]

    def gradients(self, micro: list[Batch]) -> tuple[float, int, int, float]:
        """As :meth:`Training.gradients`, and the step itself: only that tells the norm."""
        counts = torch.tensor([float((b.targets != IGNORED).sum()) for b in micro]).sum()
        learnt = int(self.summed(counts))
        if learnt == 0:
            raise TrainError(
                "no token of this step is to be learnt", where=f"{self.out}, step {self.step + 1}"
            )
        total, correct = torch.zeros(()), torch.zeros(())
        for batch in micro:
            loss, right = self.engine(*batch)
            # DeepSpeed divides by processes and accumulation: the division by tokens is ours
            self.engine.backward(loss * (self.taken / learnt))
            self.engine.step()
            total += loss.detach().float().cpu()
            correct += right.cpu()
        norm = self.engine.get_global_grad_norm()
        total, correct = self.summed(total), self.summed(correct)
        return float(total) / learnt, int(correct), learnt, float(norm if norm is not None else 0.0)

    def summed(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        value = value.to(self.engine.device if hasattr(self, "engine") else self.device)
        self.comm.all_reduce(value)
        return value.cpu()

    def update(self) -> None:
        """Nothing: :meth:`gradients` made the step. A bad one is undone by going back."""

    def save(self) -> None:
        """Write the shards of all processes; then, and only then, say that they are the state."""
        tag = f"global_step{self.step}"
        self.engine.save_checkpoint(str(self.folder), tag=tag)
        self.comm.barrier()
        if self.rank == 0:
            write_whole(self.folder / PROGRESS, json.dumps({"tag": tag, **self.progress()}))
            for old in self.folder.glob("global_step*"):
                if old.name != tag:
                    shutil.rmtree(old)
        self.comm.barrier()

    def load(self) -> dict[str, Any] | None:
        file = self.folder / PROGRESS
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def restore_tensors(self, state: dict[str, Any]) -> None:
        path, _ = self.engine.load_checkpoint(str(self.folder), tag=state["tag"])
        if path is None:
            raise TrainError("the saved state is not whole", where=str(self.folder / state["tag"]))

    def forget(self) -> None:
        self.comm.barrier()
        if self.rank == 0 and self.folder.is_dir():
            shutil.rmtree(self.folder)
        self.comm.barrier()

    def run(self) -> int:
        """Train; then the first process has the whole weights, and the others end."""
        steps = super().run()
        whole = self.engine.save_16bit_model(str(self.folder), WEIGHTS)
        self.comm.barrier()
        self.comm.destroy_process_group()
        if self.rank:
            raise SystemExit(0)  # the stage writes one checkpoint, not one a process
        if not whole:
            raise TrainError("DeepSpeed wrote no whole weights", where=str(self.optimisation.zero))
        fill(self.model, self.folder / WEIGHTS)
        return steps


def read_configuration(name: str) -> dict[str, Any]:
    """A DeepSpeed configuration: a file, or one of the shipped by its name.

    Raises:
        BadRecipe: none there, not JSON, or one whose saves would be empty.
    """
    here = Path(str(resources.files("evalsuite_train")))
    places = [Path(name).expanduser(), here / "_recipes" / name, here.parent / "recipes" / name]
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        raise BadRecipe(
            f"no DeepSpeed configuration {name!r}", hint="zero2.json, zero3.json or a path"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        zero = config["zero_optimization"]
        stage = zero["stage"]
    except (ValueError, KeyError, TypeError) as fault:
        raise BadRecipe(f"not a DeepSpeed configuration: {fault}", where=str(path)) from None
    if stage == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        raise BadRecipe(
            "with ZeRO-3 no process holds the whole weights, and the save would be empty",
            where=str(path),
            hint="set stage3_gather_16bit_weights_on_model_save to true",
        )
    return dict(config)


def fill(model: Any, file: Path) -> None:
    """Put whole weights into a model whose parameters were shared out, as float32 on the CPU.

    Raises:
        TrainError: a parameter is missing in the file or empty.
    """
    saved = torch.load(file, map_location="cpu", weights_only=True)
    weights = {name.removeprefix("model_."): tensor for name, tensor in saved.items()}
    made: dict[int, torch.nn.Parameter] = {}
    for prefix, module in model.named_modules():
        for name, old in list(module._parameters.items()):
            if old is None:
                continue
            key = f"{prefix}.{name}" if prefix else name
            if id(old) not in made:
                if key not in weights or weights[key].numel() == 0:
                    raise TrainError(f"{key} is empty", where=str(file))
                made[id(old)] = torch.nn.Parameter(weights[key].float(), old.requires_grad)
            module._parameters[name] = made[id(old)]


class _Measured(torch.nn.Module):
    """The model with its loss as output: DeepSpeed works on what ``forward`` returns."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model_ = model

    def forward(
        self, inputs: Tensor, targets: Tensor, positions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        measured = measure(self.model_, Batch(inputs, targets, positions), fused=False)
        return measured.total, measured.correct
