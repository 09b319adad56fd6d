"""The SFT stage: replies of many tasks are learnt, all at once or in stages from easy to hard."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from evalsuite_train.checkpoint import load_tokenizer, read_card, write_checkpoint
from evalsuite_train.errors import BadRecipe, TrainError, shown
from evalsuite_train.files import write_whole
from evalsuite_train.generation import derived_seed
from evalsuite_train.model import load_model
from evalsuite_train.precision import DTYPES
from evalsuite_train.processes import device_of, launched, leads
from evalsuite_train.recipe import Recipe
from evalsuite_train.sft.batches import Mixture, stream
from evalsuite_train.sft.card import card, model_card
from evalsuite_train.sft.config import Config
from evalsuite_train.sft.curriculum import Stage, measure_difficulty, plan_stages, write_plan
from evalsuite_train.sft.examination import Examination
from evalsuite_train.sft.lora import add_adapter, merge, read_adapter, write_adapter
from evalsuite_train.sft.matrix import START, Matrix
from evalsuite_train.sft.parent import load_parent, weights_digest
from evalsuite_train.sft.progress import Progress
from evalsuite_train.sft.samples import digest, read_samples
from evalsuite_train.state import remove_states
from evalsuite_train.templates import TEMPLATES, encoder
from evalsuite_train.trainer import train


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Train and write ``out/checkpoint``; with several stages also ``out/stage-1/checkpoint`` and so on.

    Raises:
        BadRecipe: the template does not fit the tokenizer, a setting does not fit the data.
        BadData: nothing to learn from.
        Forgotten: a stage lost more of a task than ``forgetting`` allows.
    """
    _Run(config, recipe, out).run()


FREE = {"forgetting", "save_every", "log_every", "peak_tflops", "device"}
"""Settings that may change when a training goes on."""


class _Run:
    """One SFT under way."""

    def __init__(self, config: Config, recipe: Recipe, out: Path) -> None:
        self.config, self.recipe, self.out = config, recipe, out
        self.parent = recipe.parent(config.parent)
        self.parent_name = str(read_card(self.parent).get("name") or config.parent)
        self.tokenizer = load_tokenizer(self.parent)
        self.form = encoder(self.tokenizer, config.template)
        self.form.check_own_template(str(self.parent))
        self.samples, self.ledger = read_samples(
            recipe.file(config.data),
            self.tokenizer,
            config.template,
            max_length=config.max_length,
            bad_share=config.bad_share,
        )
        self.ledger.write(out / "ledger.json")
        print(self.ledger.summary(), flush=True)
        self.data = digest(self.samples)
        self.weights = weights_digest(self.parent)
        self.key = self._key()
        self.progress = Progress(out / "progress.json", self.key)
        self.matrix = Matrix(out / "matrix.json", self.key)
        self.validation = self._examination(config.validation)
        self.training = self._examination(config.training)
        self.trained_now = False

    def run(self) -> None:
        plan = self._plan()
        # Under ZeRO the others wait in training.
        if self.validation and leads() and START not in self.matrix.rows:
            self.matrix.add(START, self.validation.ask(self._placed(self._base())))
        step = 0
        for number, stage in enumerate(plan, 1):
            step += (steps := self._steps(stage, number, len(plan)))
            model = self._trained(number, len(plan), stage, steps, step)
            name = f"stage {number}"
            if self.validation and name not in self.matrix.rows:
                self.matrix.add(name, self.validation.ask(model))
            if self.config.forgetting is not None and self.validation:
                self.matrix.check(self.config.forgetting)
            if self.config.zero and self.trained_now and number < len(plan):
                # The other processes end with a training; the next one needs a new start.
                print(f"stage {number} of {len(plan)} is written; run the same again", flush=True)
                raise SystemExit(0)
        if self.validation:
            print(shown(self.matrix.table()), flush=True)
        self._publish(model, step, len(plan))

    def _plan(self) -> list[Stage]:
        tasks = [sample.task for sample in self.samples]
        if self.config.stages == 1:
            return [Stage(np.arange(len(tasks)), np.empty(0, np.int64))]
        key = hashlib.sha256(f"{self.data}/{self.weights}".encode()).hexdigest()
        model = self._placed(self._base())
        difficulty = measure_difficulty(
            model,
            self.samples,
            self.out / "difficulty.json",
            key,
            dtype=DTYPES[self.config.precision],
        )
        seed = derived_seed(self.recipe.seed, self.out.name, "curriculum")
        plan = plan_stages(tasks, difficulty, self.config.stages, self.config.replay, seed)
        if not all(len(stage.own) for stage in plan):
            what = (
                f"{len(plan)} stages, and at most {max(Counter(tasks).values())} samples of a task"
            )
            raise BadRecipe(what, where=self._where, hint="lower stages")
        write_plan(self.out, self.samples, difficulty, plan)
        return plan

    def _steps(self, stage: Stage, number: int, stages: int) -> int:
        config = self.config
        if config.epochs is not None:
            together = config.batch * config.accumulation * launched()
            return math.ceil(config.epochs * len(stage.members) / together)
        if config.steps < stages:
            raise BadRecipe(f"{config.steps} steps for {stages} stages", where=self._where)
        return config.steps * number // stages - config.steps * (number - 1) // stages

    def _trained(self, number: int, stages: int, stage: Stage, steps: int, step: int) -> Any:
        """The model after stage ``number``, as it was written: with the adapter merged, if there is one."""
        kind = "checkpoint" if self.config.method == "full" else "adapter"
        place = self.out / f"stage-{number}"
        target = place / kind
        if not (self.progress.finished(number) and target.is_dir()):
            work = self.out if stages == 1 else place
            work.mkdir(parents=True, exist_ok=True)
            model = self._starting(number)
            self._learn(model, stage, steps, number, work)
            self._write_stage(target, model.to("cpu"), number, step)
            self.progress.finish(number)
            remove_states(work)
        return self._load(number)

    def _learn(self, model: Any, stage: Stage, steps: int, number: int, work: Path) -> None:
        seed = derived_seed(self.recipe.seed, self.out.name, number)
        chosen = [self.samples[i] for i in stage.members]
        mixture = Mixture([sample.task for sample in chosen], self.config.weights, seed)
        batches = stream(chosen, mixture, self.config.batch, pad=self.form.pad)
        if steps <= self.config.warmup:
            print(f"stage {number}: {steps} steps, all of them warm-up", flush=True)
        self.trained_now = True
        train(model, batches, self.config.optimisation(steps), work, seed=seed, data=self.key)

    def _starting(self, number: int) -> Any:
        """The model that stage ``number`` trains: what the stage before it wrote."""
        if self.config.method == "full":
            return self._base() if number == 1 else self._load(number - 1)
        base = self._base()
        if number == 1:
            seed = derived_seed(self.recipe.seed, self.out.name, "adapter")
            return add_adapter(base, self.config.adapter, self.parent, seed)
        return read_adapter(base, self.out / f"stage-{number - 1}" / "adapter")

    def _load(self, number: int) -> Any:
        kind = "checkpoint" if self.config.method == "full" else "adapter"
        place = self.out / f"stage-{number}" / kind
        try:
            if self.config.method == "full":
                return self._placed(load_model(place))
            return self._placed(merge(read_adapter(self._base(), place)).eval())
        except BadRecipe as fault:
            hint = "remove this folder: its stage is trained again"
            raise TrainError(fault.what, where=str(place), hint=hint) from None

    def _base(self) -> Any:
        return load_parent(self.parent, len(self.tokenizer), self.config.max_length)

    def _placed(self, model: Any) -> Any:
        """The model where it is to be trained and asked."""
        return model.to(device_of(self.config.device))

    def _write_stage(self, target: Path, model: Any, number: int, step: int) -> None:
        before = (
            self.parent_name if number == 1 else f"{self.recipe.name}-{self.out.name}-{number - 1}"
        )
        said = {"evalsuite.json": self._card(step, before, number)}
        if self.config.method == "lora":
            write_adapter(target, model, said, self.parent)
        else:
            self._write(target, model, step, said)

    def _publish(self, model: Any, step: int, stages: int) -> None:
        """Write the gate, the model card and the section's checkpoint; tidy up."""
        gate = self._gate(model)
        log = self._log(stages)
        settings = {
            name: getattr(self.config, name)
            for name in (
                "method",
                "template",
                "stages",
                "learning_rate",
                "batch",
                "accumulation",
                "precision",
            )
        }
        files = {
            "train_log.jsonl": log,
            "README.md": model_card(
                f"{self.recipe.name}-{self.out.name}",
                self.parent_name,
                self.ledger,
                {**settings, "steps": step, "seed": self.recipe.seed},
                {split: gate[split] for split in ("training", "validation") if gate[split]},
            ),
            "gate.json": json.dumps(gate, indent=2, ensure_ascii=False) + "\n",
        }
        if self.config.method == "lora":
            adapter = read_adapter(self._base(), self.out / f"stage-{stages}" / "adapter")
            said = {"evalsuite.json": self._card(step, self.parent_name, None)}
            write_adapter(self.out / "adapter", adapter, {**files, **said}, self.parent)
        if self.config.method == "full" or self.config.merged:
            self._write(self.out / "checkpoint", model, step, files)
        write_whole(self.out / "log.jsonl", log)
        write_whole(self.out / "gate.json", files["gate.json"])
        if stages == 1:
            gone = self.out / "stage-1.old"  # half of a stage must never pass for a whole one
            shutil.rmtree(gone, ignore_errors=True)
            (self.out / "stage-1").rename(gone)
            shutil.rmtree(gone)

    def _gate(self, model: Any) -> dict[str, Any]:
        """Greedy accuracy by task on both splits; RL stages look here before they start."""
        validated = list(self.matrix.rows.values())[-1] if self.validation else {}
        trained = self.training.ask(model) if self.training else {}
        return {
            "stage": "sft",
            "training": {task: result.accuracy for task, result in trained.items()},
            "validation": {task: result.accuracy for task, result in validated.items()},
            "questions": self.config.questions,
        }

    def _write(self, target: Path, model: Any, step: int, files: dict[str, str]) -> None:
        write_checkpoint(
            target,
            model,
            tokenizer=self.parent,
            recipe=self.recipe,
            section=self.out.name,
            step=step,
            parent=self.parent_name,
            template=TEMPLATES[self.config.template].chat_template,
            dtype=DTYPES[self.config.written],
            files=files,
        )

    def _card(self, step: int, parent: str, part: int | None) -> str:
        template = TEMPLATES[self.config.template].chat_template
        return card(
            self.recipe, self.out.name, step=step, parent=parent, template=template, part=part
        )

    def _log(self, stages: int) -> str:
        if stages == 1:
            return (self.out / "log.jsonl").read_text(encoding="utf-8")
        rows = []
        for number in range(1, stages + 1):
            text = (self.out / f"stage-{number}" / "log.jsonl").read_text(encoding="utf-8")
            rows += [
                json.dumps({"stage": number, **json.loads(line)}) + "\n"
                for line in text.splitlines()
            ]
        return "".join(rows)

    def _examination(self, file: str | None) -> Examination | None:
        if file is None:
            return None
        return Examination(
            self.recipe.file(file),
            self.tokenizer,
            self.config.template,
            items=self.config.questions,
            max_length=self.config.max_length,
            max_new_tokens=self.config.max_new_tokens,
        )

    def _key(self) -> str:
        settings = {k: v for k, v in msgspec.to_builtins(self.config).items() if k not in FREE}
        named = [settings, self.recipe.seed, self.data, self.weights]
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()

    @property
    def _where(self) -> str:
        return f"{self.recipe.source}: {self.out.name}"
