"""The training loop that every stage shares: one step after the other, resumable at any moment."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from evalsuite_train.curves import Log, draw
from evalsuite_train.errors import Diverged, TrainError
from evalsuite_train.loss import IGNORED, Batch, Measured, measure
from evalsuite_train.meter import Meter, measured_peak, model_flops_per_token
from evalsuite_train.optimiser import Optimisation, adamw
from evalsuite_train.precision import DTYPES
from evalsuite_train.processes import device_of
from evalsuite_train.schedule import rate
from evalsuite_train.spikes import SpikeDetector
from evalsuite_train.state import load_state, remove_states, save_state

__all__ = ["IGNORED", "Batch", "Optimisation", "measure", "train"]

Batches = Callable[[int], Iterator[Batch]]
MOST_FAILURES = 5  # spikes in a row, without a new saved state between them
EMPTY: dict[str, float] = {
    "loss": 0.0,
    "correct": 0,
    "learnt": 0,
    "norm": 0.0,
}  # since the last row
FREE = {
    "save_every",
    "log_every",
    "peak_tflops",
}  # settings that may change when a training goes on


def train(
    model: Any,
    batches: Batches,
    optimisation: Optimisation,
    out: Path,
    *,
    seed: int,
    data: str = "",
) -> int:
    """Train ``model`` in place for ``optimisation.steps`` steps and return the steps done.

    Called again after a crash or ``kill -9`` it goes on from ``out/state.pt`` and ends with the
    same weights, bit for bit, as a run that was never interrupted (on one machine with the same
    number of threads). A step whose loss or gradient spikes is not applied: the last saved state
    comes back and the batches since then, with the offending one, are skipped.

    Args:
        batches: ``batches(n)`` is the endless stream from micro-batch ``n`` on, always the same.
        out: gets ``state.pt``, ``log.jsonl`` and ``curves.svg``.
        seed: of dropout and the like.
        data: names the data (a content hash), so that no state goes on with others.

    Raises:
        Diverged: spikes again and again, naming the step.
        TrainError: a state of other settings, a full disk, a stream that ends.
    """
    if optimisation.zero is not None:
        from evalsuite_train.zero import ZeroTraining

        return ZeroTraining(model, batches, optimisation, out, seed, data).run()
    return Training(model, batches, optimisation, out, seed, data).run()


class Training:
    """One training under way; ``step`` counts updates, ``position`` the micro-batches taken."""

    def __init__(
        self,
        model: Any,
        batches: Batches,
        optimisation: Optimisation,
        out: Path,
        seed: int,
        data: str,
    ) -> None:
        self.model, self.batches, self.optimisation, self.out = model, batches, optimisation, out
        self.settings = {"seed": seed, "data": data, "kind": type(optimisation).__module__}
        self.settings |= msgspec.to_builtins(optimisation, enc_hook=str)
        self.device = device_of(optimisation.device)
        if optimisation.zero is None:  # DeepSpeed takes a model from the host
            model.to(self.device)
        self.kind = DTYPES[optimisation.precision]
        self.optimizer = adamw(model, optimisation)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.kind is torch.float16)
        self.detector = SpikeDetector(optimisation.spike_threshold)
        self.log = Log(out / "log.jsonl")
        self.step = self.position = self.tokens = self.failures = 0
        self.processes = 1
        self.taken = optimisation.accumulation  # micro-batches of a step, of all processes
        self.window = dict(EMPTY)
        self.meter: Meter | None = None
        if optimisation.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        if hasattr(model, "set_attn_implementation"):
            model.set_attn_implementation(optimisation.attention)
        torch.manual_seed(seed)

    def run(self) -> int:
        self.resume()
        self.model.train()
        stream = self.batches(self.position)
        while self.step < self.optimisation.steps:
            micro = [self.next(stream) for _ in range(self.optimisation.accumulation)]
            for group in self.optimizer.param_groups:
                group["lr"] = rate(self.step, self.optimisation)
            loss, correct, learnt, norm = self.gradients(micro)
            fault = self.judge(loss, norm)
            if fault:
                self.roll_back(fault)
                stream = self.batches(self.position)
                continue
            self.update()
            self.step += 1
            self.position += self.taken
            self.tokens += learnt
            self.window["loss"] += loss * learnt
            self.window["correct"] += correct
            self.window["learnt"] += learnt
            if math.isfinite(norm):
                self.window["norm"] = norm
            self.report(micro)
        self.model.eval()
        draw(self.log.path, self.out / "curves.svg")
        return self.step

    def update(self) -> None:
        """Apply the gradients of a step that was found good."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def next(self, stream: Iterator[Batch]) -> Batch:
        batch = next(stream, None)
        if batch is None:
            raise TrainError(
                f"the data ended at step {self.step} of {self.optimisation.steps}",
                where=str(self.out),
                hint="a stream of batches begins again when it has come to its end",
            )
        inputs, targets, positions = batch
        if positions is not None:
            positions = positions.to(self.device)
        return Batch(inputs.to(self.device), targets.to(self.device), positions)

    def gradients(self, micro: list[Batch]) -> tuple[float, int, int, float]:
        """Loss, correct and learnt tokens, gradient norm of a step, its gradients left in place.

        Every micro-batch is divided by the learnt tokens of the whole step: accumulation gives
        the gradient of the large batch, however the learnt tokens are spread.
        """
        learnt = sum(int((batch.targets != IGNORED).sum()) for batch in micro)
        if learnt == 0:
            raise TrainError(
                "no token of this step is to be learnt", where=f"{self.out}, step {self.step + 1}"
            )
        loss, correct = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for batch in micro:
            measured = self.measure(batch)
            part = measured.total / learnt
            torch.autograd.backward(self.scaler.scale(part))
            loss += part.detach()
            correct += measured.correct
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.learning(), self.optimisation.clip)
        return float(loss), int(correct), learnt, float(norm)

    def measure(self, batch: Batch) -> Measured:
        if self.kind is torch.float32:
            return measure(self.model, batch)
        with torch.autocast(self.device.type, self.kind):
            return measure(self.model, batch)

    def learning(self) -> list[Tensor]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def judge(self, loss: float, norm: float) -> str | None:
        """What is wrong with a step, or None. fp16 gradients that overflow lower the scale instead."""
        overflow = self.scaler.is_enabled() and math.isfinite(loss) and not math.isfinite(norm)
        if overflow and self.scaler.get_scale() > 1.0:
            return None
        return self.detector.judge(loss, norm)

    def roll_back(self, fault: str) -> None:
        """Go back to the last saved state, and on past the batch that did not belong."""
        step, after = self.step + 1, self.position + self.taken
        self.failures += 1
        if self.failures > MOST_FAILURES:
            raise Diverged(
                f"{fault}; so it went {self.failures} times since the last saved state",
                where=f"{self.out}, step {step}",
                hint="lower learning_rate, raise warmup, or look at the data of these steps",
            )
        self.optimizer.zero_grad(set_to_none=True)
        state = self.load()
        if state is None:
            raise TrainError("the saved state has gone", where=str(self.out))
        self.restore(state, keep_events=True)
        self.log.write(
            {
                "event": "spike",
                "step": step,
                "why": fault,
                "back_to": self.step,
                "skipped": after - self.position,
            }
        )
        self.position = after

    def report(self, micro: list[Batch]) -> None:
        """Count a finished step; log and save when it is time."""
        optimisation = self.optimisation
        if self.meter is None:
            self.meter = self.new_meter(micro[0].inputs.shape[1])
        self.meter.add(self.processes * sum(batch.inputs.numel() for batch in micro))
        last = self.step == optimisation.steps
        if self.step % optimisation.log_every == 0 or last:
            window, learnt = self.window, max(1, self.window["learnt"])
            self.log.write(
                {
                    "step": self.step,
                    "loss": round(window["loss"] / learnt, 5),
                    "accuracy": round(window["correct"] / learnt, 5),
                    "norm": float(f"{window['norm']:.4g}"),
                    "rate": float(f"{rate(self.step - 1, optimisation):.4g}"),
                    "tokens": self.tokens,
                    **self.meter.read(),
                }
            )
            self.window = dict(EMPTY)
        if self.step % optimisation.save_every == 0 or last:
            self.failures = 0
            self.save()

    def new_meter(self, length: int) -> Meter:
        given = self.optimisation.peak_tflops
        peak = given * 1e12 if given else measured_peak(self.device, self.kind)
        return Meter(model_flops_per_token(self.model, length), peak * self.processes)

    def resume(self) -> None:
        """Go on from the saved state, or save the first one: a full disk shows now, not in hours."""
        state = self.load()
        if state is not None and self.belongs(state):
            self.restore(state)
            print(f"{self.out}: going on from step {self.step}", flush=True)
            return
        self.forget()
        self.log.back_to(0)
        self.save()

    def belongs(self, state: dict[str, Any]) -> bool:
        """Whether a state is of this very training; a finished other one may be replaced."""
        # both by way of JSON, which some states go through: it knows no tuples
        ours, theirs = (json.loads(json.dumps(s)) for s in (self.settings, state["settings"]))
        keys = sorted(ours.keys() | theirs.keys())
        changed = [k for k in keys if k not in FREE and ours.get(k) != theirs.get(k)]
        if changed and state["step"] < theirs["steps"]:
            raise TrainError(
                "an unfinished training stands here, with other settings: "
                + ", ".join(f"{k} {theirs.get(k)!r} (now {ours.get(k)!r})" for k in changed),
                where=str(self.out),
                hint="restore these settings to go on, or remove this folder to start again",
            )
        if not changed and state["threads"] != torch.get_num_threads():
            print(
                f"{self.out}: saved with {state['threads']} threads: the last bits may differ",
                flush=True,
            )
        return not changed

    def progress(self) -> dict[str, Any]:
        """Where the training stands, without its tensors."""
        return {
            "settings": self.settings,
            "step": self.step,
            "position": self.position,
            "tokens": self.tokens,
            "detector": self.detector.state(),
            "window": self.window,
            "log": self.log.size(),
            "threads": torch.get_num_threads(),
        }

    def load(self) -> dict[str, Any] | None:
        return load_state(self.out)

    def forget(self) -> None:
        remove_states(self.out)

    def save(self) -> None:
        cuda = torch.cuda.get_rng_state_all() if self.device.type == "cuda" else []
        tensors = {
            "model": self.weights(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": [torch.get_rng_state(), *cuda],
        }
        save_state(self.out, self.progress() | tensors)

    def restore(self, state: dict[str, Any], *, keep_events: bool = False) -> None:
        self.restore_tensors(state)
        self.detector.restore(state["detector"])
        self.window = dict(state["window"])
        self.step, self.position, self.tokens = state["step"], state["position"], state["tokens"]
        self.log.back_to(state["log"], keep_events=keep_events)

    def restore_tensors(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, tensor in self.weights().items():
                tensor.copy_(state["model"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"][0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["random"][1:])

    def weights(self) -> dict[str, Tensor]:
        """The parameters that learn, by name; frozen ones come with the parent."""
        return {n: p.detach() for n, p in self.model.named_parameters() if p.requires_grad}
