"""One process of a ZeRO training of a tiny model. Usage: torchrun … zero_training.py FOLDER CONFIG"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from evalsuite_train.loss import IGNORED, Batch
from evalsuite_train.model import Shape, new_model
from evalsuite_train.trainer import Optimisation, train


def stream(first: int) -> Iterator[Batch]:
    """Rows to learn, with unevenly many learnt tokens."""
    number = first
    while True:
        torch.manual_seed(number)
        ids = (torch.randint(3, 60, (2, 1)) + torch.arange(25)) % 60 + 3
        batch = Batch(ids[:, :-1], ids[:, 1:].clone())
        batch.targets[:, : 5 * (number % 3)] = IGNORED
        yield batch
        number += 1


def settings(**changes: object) -> Optimisation:
    values = {"steps": 8, "learning_rate": 3e-3, "warmup": 2, "save_every": 4, "log_every": 2}
    return Optimisation(
        **{
            **values,
            "peak_tflops": 1.0,
            "epsilon": 1e-4,
            "device": "cpu",
            "precision": "fp32",
            **changes,
        }
    )  # type: ignore[arg-type]


def main() -> None:
    folder, config = Path(sys.argv[1]), sys.argv[2]
    model = new_model(Shape(32, 2, 2, 1, 64), 128, seed=1)
    dies = os.environ.get("DIES") == "in its sixth step"

    def batches(first: int) -> Iterator[Batch]:
        for number, batch in enumerate(stream(first), first):
            if dies and number == 22:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    train(model, batches, settings(zero=config, accumulation=2), folder, seed=1)
    torch.save(model.state_dict(), folder / "final.pt")


if __name__ == "__main__":
    main()
