"""The stage ``ppo``: gates, rollouts, updates, and the stop when reward and gold part."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import torch

from evalsuite_train.checkpoint import read_card, write_checkpoint
from evalsuite_train.curves import Log, shipped_log
from evalsuite_train.errors import BadRecipe
from evalsuite_train.experience import POOL, ExperiencePool
from evalsuite_train.gates import check_settings
from evalsuite_train.generation import derived_seed, generate, reply_text
from evalsuite_train.model import load_model
from evalsuite_train.ppo.card import model_card
from evalsuite_train.ppo.config import Config
from evalsuite_train.ppo.iteration import experiences, portion, summary
from evalsuite_train.ppo.parts import assemble
from evalsuite_train.ppo.plot import draw
from evalsuite_train.ppo.rollout import rollout
from evalsuite_train.ppo.validation import Alarm, Measured
from evalsuite_train.processes import join
from evalsuite_train.recipe import Recipe
from evalsuite_train.sharding import (
    optimiser_state,
    own_weights,
    plain,
    put_optimiser_state,
    put_weights,
)
from evalsuite_train.state import load_state, remove_states, save_state
from evalsuite_train.templates import TEMPLATES, encode_prompt

__all__ = ["Config", "run"]


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Train the policy and write it; goes on from ``out/state.pt`` when cut off.

    Started by torchrun, the models and the rows are shared out over its processes.

    Raises:
        GateClosed: the parent or the reward model has not reached its bar.
        BadData: no prompts of these tasks, or prompts that nothing judges.
        BadRecipe: prompts and minibatches that cannot be shared out evenly.
    """
    training = _Training(config, recipe, out)
    training.resume()
    training.loop()
    training.write()
    remove_states(out)


class _Training:
    """One PPO run under way; ``done`` counts finished iterations."""

    def __init__(self, config: Config, recipe: Recipe, out: Path) -> None:
        self.config, self.recipe, self.out = config, recipe, out
        self.seed = derived_seed(recipe.seed, out.name)
        self.settings = {"seed": self.seed, **msgspec.to_builtins(config)}
        where = f"{recipe.source}: {out.name}"
        self.processes = join(config.device)
        _check_shares(config, self.processes.size, where)
        self.parts = assemble(config, recipe, self.processes, where=where)
        self.learner, self.tokenizer = self.parts.learner, self.parts.tokenizer
        self.log, self.pool = Log(out / "log.jsonl"), ExperiencePool(out / POOL)
        self.log.silent = self.pool.silent = not self.processes.first
        self.done, self.alarm = 0, ""
        self.start: Measured | None = None
        self.good_iteration, self.good = 0, own_weights(self.learner.policy)

    def resume(self) -> None:
        """Take up the last saved state, and take log and pool back to it."""
        state = load_state(self.out, self.processes)
        self.log.back_to(state["log"] if state else 0)
        self.pool.back_to(state["pool"] if state else 0)
        if state:
            check_settings(state, self.settings, self.out)
            put_weights(self.learner.policy, state["policy"])
            put_weights(self.learner.value, state["value"])
            put_optimiser_state(self.learner.optimiser, state["optimiser"])
            self.done, self.alarm = state["step"], state["alarm"]
            self.good, self.good_iteration = state["good"], state["good_iteration"]
            self.start = msgspec.convert(state["start"], Measured)

    def save(self) -> None:
        """Everything that the next iteration depends on."""
        save_state(
            self.out,
            {
                "step": self.done,
                "position": self.done,
                "settings": self.settings,
                "policy": own_weights(self.learner.policy),
                "value": own_weights(self.learner.value),
                "optimiser": optimiser_state(self.learner.optimiser),
                "alarm": self.alarm,
                "good": self.good,
                "good_iteration": self.good_iteration,
                "start": msgspec.to_builtins(self.start),
                "log": self.log.size(),
                "pool": self.pool.size(),
            },
            self.processes,
        )

    def loop(self) -> None:
        """Iterate to the end, or until reward and gold part."""
        config = self.config
        if self.start is None:
            self.start = self.parts.validation.look(self.learner.policy)
            self.log.write(
                {"iteration": 0, "validation": self.parts.validation.summary(self.start)}
            )
        while self.done < config.iterations and not self.alarm:
            self.iterate()
            if self.done % config.evaluate_every == 0 or self.done == config.iterations:
                self.evaluate()
            if self.done % config.save_every == 0 or self.done == config.iterations or self.alarm:
                self.save()
                if self.processes.first:
                    draw(self.log.path, self.out / "curves.svg")

    def iterate(self) -> None:
        """Sample, judge, learn, log; every sample goes to the pool."""
        config, learner, started = self.config, self.learner, time.monotonic()
        asked = portion(self.parts.asked, self.done, config.prompts_per_iteration, self.seed)
        prompts = [encode_prompt(self.tokenizer, a.prompt, config.template) for a in asked]
        eos = int(self.tokenizer.eos_token_id)
        replies = generate(
            learner.policy,
            prompts,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            seed=derived_seed(self.seed, "rollout", self.done),
            eos=eos,
            allowed=learner.allowed,
            processes=self.processes,
        )
        texts = [reply_text(self.tokenizer, reply) for reply in replies]
        sampled = time.monotonic()
        worths = self.parts.judge(asked, texts, [reply.finished for reply in replies])
        judged = time.monotonic()
        batch = rollout(prompts, replies, eos).to(self.processes.device)
        learner.anneal(self.done)
        targets = learner.targets(batch, torch.tensor([worth.total for worth in worths]))
        means = learner.update(batch, targets, derived_seed(self.seed, "minibatches", self.done))
        self.done += 1
        found = experiences(self.done, asked, texts, replies, worths, targets.kl.sum(-1).tolist())
        self.pool.append(found)
        times = (sampled - started, judged - sampled, time.monotonic() - judged)
        length = sum(len(reply.ids) for reply in replies) / len(replies)
        self.log.write(
            {
                **summary(found),
                "length": round(length, 2),
                **{key: round(value, 5) for key, value in means.items()},
                "seconds": [round(seconds, 2) for seconds in times],
            }
        )

    def evaluate(self) -> None:
        """Look at the validation prompts; keep the policy if all is well, sound the alarm if not."""
        assert self.start is not None
        now = self.parts.validation.look(self.learner.policy)
        alarm: Alarm | None = self.parts.validation.parted(self.start, now, self.config.alpha)
        row: dict[str, Any] = {
            "iteration": self.done,
            "validation": self.parts.validation.summary(now),
        }
        if alarm:
            row["alarm"] = str(alarm)
        self.log.write(row)
        if alarm and self.config.guards:
            self.alarm = str(alarm)
            return
        self.good, self.good_iteration = own_weights(self.learner.policy), self.done

    def write(self) -> None:
        """Write the last good policy as the checkpoint, with its log and card."""
        put_weights(self.learner.policy, self.good)
        policy = plain(self.learner.policy, self.processes, lambda: load_model(self.parts.parent))
        parent = str(read_card(self.parts.parent).get("name", self.config.parent))
        card = model_card(
            f"{self.recipe.name}-{self.out.name}",
            parent,
            self.config,
            iteration=self.good_iteration,
            samples=len(self.pool),
            alarm=self.alarm,
            log=self.log.path,
        )
        write_checkpoint(
            self.out / "checkpoint",
            policy,
            tokenizer=self.parts.parent,
            recipe=self.recipe,
            section=self.out.name,
            step=self.good_iteration,
            parent=parent,
            template=TEMPLATES[self.config.template].chat_template,
            files={"README.md": card, "train_log.jsonl": shipped_log(self.log.path)},
        )


def _check_shares(config: Config, processes: int, where: str) -> None:
    """Every process has as many rows as the others, and one of every minibatch at least."""
    rows = config.prompts_per_iteration
    if rows % processes or rows // config.minibatches < processes:
        raise BadRecipe(
            f"{rows} prompts an iteration in {config.minibatches} minibatches for {processes} processes",
            where=where,
            hint="make prompts_per_iteration a multiple of processes × minibatches",
        )
