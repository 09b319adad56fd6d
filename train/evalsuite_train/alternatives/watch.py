"""The stop of GRPO and RLOO: gold beside reward on held-out prompts, with PPO's test whether they have parted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from transformers import TrainerCallback

from evalsuite_train.errors import TrainError
from evalsuite_train.ppo.validation import Measured, Validation
from evalsuite_train.processes import leads
from evalsuite_train.state import load_state, save_state


class Watch(TrainerCallback):  # type: ignore[misc]
    """Looks at the validation prompts before the first step, every so many steps, and after the last.

    Each look is a row of the trainer's history. The weights of the last good one are kept in
    ``folder``, with the first look and the alarm, so that a killed training goes on from them. Of several
    processes each looks, at the same weights, and the first writes.

    Args:
        every: steps between two looks.
        alpha: significance at which reward and gold have parted.

    Attributes:
        alarm: why the training was stopped; empty as long as all is well.
        step: that of the last good look.
    """

    def __init__(self, validation: Validation, folder: Path, *, every: int, alpha: float) -> None:
        self._validation, self._folder = validation, folder
        self._every, self._alpha = every, alpha
        state = load_state(folder) or {"alarm": "", "step": 0, "weights": {}, "start": None}
        self.alarm, self.step, self._weights = state["alarm"], state["step"], state["weights"]
        self._start = msgspec.convert(state["start"], Measured | None)

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        """The look that all others are held against.

        Raises:
            TrainError: the training is under way, and its start was never looked at.
        """
        if state.global_step == 0:
            self._start = self._look(model, state)
            self._keep(model, 0)
        elif self._start is None:
            raise TrainError(
                "an unfinished training stands here, and its start was never looked at",
                where=str(self._folder),
                hint="remove this folder to start again, or go on with guards: false",
            )

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        """Look; keep the weights if all is well, stop if not."""
        if state.global_step % self._every and state.global_step != state.max_steps:
            return
        assert self._start is not None
        alarm = self._validation.parted(self._start, self._look(model, state), self._alpha)
        if alarm is None:
            self._keep(model, int(state.global_step))
            return
        self.alarm = state.log_history[-1]["alarm"] = str(alarm)
        self._save()
        control.should_training_stop = True

    def restore(self, model: Any) -> None:
        """Give ``model`` the weights of the last good look."""
        model.load_state_dict(self._weights)

    def _look(self, model: Any, state: Any) -> Measured:
        measured = self._validation.look(model)
        row = {"step": state.global_step, "validation": self._validation.summary(measured)}
        state.log_history.append(row)
        return measured

    def _keep(self, model: Any, step: int) -> None:
        self.step = step
        self._weights = {k: v.detach().to("cpu", copy=True) for k, v in model.state_dict().items()}
        self._save()

    def _save(self) -> None:
        if not leads():
            return
        save_state(
            self._folder,
            {
                "step": self.step,
                "position": self.step,
                "alarm": self.alarm,
                "weights": self._weights,
                "start": msgspec.to_builtins(self._start),
            },
        )
