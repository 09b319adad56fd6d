"""The stage ``ppo``: gates, rollouts, updates, and the stop when reward and gold part."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import torch

from evalsuite_train.checkpoint import load_tokenizer, read_card, write_checkpoint
from evalsuite_train.curves import Log, shipped_log
from evalsuite_train.errors import BadData, BadRecipe
from evalsuite_train.experience import POOL, Experience, ExperiencePool
from evalsuite_train.feedback.rows import Asked, read_prompts
from evalsuite_train.gates import check_gate, check_settings
from evalsuite_train.generation import derived_seed, generate, reply_text
from evalsuite_train.model import load_model
from evalsuite_train.ppo.card import model_card
from evalsuite_train.ppo.config import Config
from evalsuite_train.ppo.learner import Learner
from evalsuite_train.ppo.plot import draw
from evalsuite_train.ppo.reward import Judge
from evalsuite_train.ppo.rollout import rollout
from evalsuite_train.ppo.validation import Alarm, Measured, Validation
from evalsuite_train.recipe import Recipe
from evalsuite_train.rm.model import RewardModel, device_of
from evalsuite_train.state import load_state, remove_states, save_state
from evalsuite_train.templates import TEMPLATES, encode_prompt

__all__ = ["Config", "run"]


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Train the policy and write it; goes on from ``out/state.pt`` when cut off.

    Raises:
        GateClosed: the parent or the reward model has not reached its bar.
        BadData: no prompts of these tasks, or prompts that nothing judges.
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
        self.parent = recipe.parent(config.parent)
        self.seed = derived_seed(recipe.seed, out.name)
        self.settings = {"seed": self.seed, **msgspec.to_builtins(config)}
        self.asked = _chosen(recipe.file(config.prompts), config.tasks)
        tasks = {asked.task for asked in self.asked}
        rm_folder = recipe.parent(config.rm) if config.rm else None
        if config.guards:
            check_gate(
                self.parent,
                config.sft_bar,
                tasks,
                what="the parent's accuracy on its training split",
            )
            if rm_folder:
                judged = tasks & set(config.rm_tasks) if config.rm_tasks else tasks
                check_gate(
                    rm_folder, config.rm_bar, judged, what="the reward model's pair accuracy"
                )
        self.tokenizer = load_tokenizer(self.parent)
        rm = RewardModel.open(rm_folder) if rm_folder else None
        self.judge = self._judge(rm)
        self.device = device_of(config.device)
        policy = load_model(self.parent).to(self.device)
        if rm is not None:
            rm.model.to(self.device)
        self.learner = Learner(policy, self._backbone(policy, rm), config, len(self.tokenizer))
        self.validation = self._validation(tasks)
        self.log, self.pool = Log(out / "log.jsonl"), ExperiencePool(out / POOL)
        self.done, self.alarm = 0, ""
        self.start: Measured | None = None
        self.good_iteration, self.good = 0, _weights(policy)

    def _judge(self, rm: RewardModel | None) -> Judge:
        config = self.config
        for asked in self.asked:
            by_rm = rm is not None and (not config.rm_tasks or asked.task in config.rm_tasks)
            if not asked.rules and not by_rm:
                raise BadData(
                    f"prompt {asked.id!r} has no rules, and no reward model judges its task",
                    where=config.prompts,
                    hint="name a reward model with `rm`, or leave the task out with `tasks`",
                )
        return Judge(
            rm,
            rm_weight=config.rm_weight,
            rules_weight=config.rules_weight,
            veto=config.veto,
            rm_clip=config.rm_clip,
            penalty=config.missing_eos,
            rm_tasks=frozenset(config.rm_tasks) or None,
        )

    def _backbone(self, policy: Any, rm: RewardModel | None) -> Any | None:
        if self.config.value == "shared":
            return None
        if self.config.value == "policy" or rm is None:
            return policy.get_decoder()
        if rm.tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise BadRecipe(
                "the reward model has another vocabulary than the policy",
                where=f"{self.recipe.source}: {self.out.name}",
                hint="set value: policy",
            )
        return rm.model.model

    def _validation(self, tasks: set[str]) -> Validation:
        config, counts, kept = self.config, dict.fromkeys(tasks, 0), []
        for asked in read_prompts(self.recipe.file(config.validation)):
            if (
                asked.rules
                and counts.get(asked.task, config.validation_prompts) < config.validation_prompts
            ):
                counts[asked.task] += 1
                kept.append(asked)
        if not kept:
            raise BadData("no validation prompt of these tasks has rules", where=config.validation)
        return Validation(
            kept,
            self.tokenizer,
            self.judge,
            template=config.template,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            seed=derived_seed(self.seed, "validation"),
        )

    def resume(self) -> None:
        """Take up the last saved state, and take log and pool back to it."""
        state = load_state(self.out)
        self.log.back_to(state["log"] if state else 0)
        self.pool.back_to(state["pool"] if state else 0)
        if state:
            check_settings(state, self.settings, self.out)
            self.learner.policy.load_state_dict(state["policy"])
            self.learner.value.load_state_dict(state["value"])
            self.learner.optimiser.load_state_dict(state["optimiser"])
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
                "policy": self.learner.policy.state_dict(),
                "value": self.learner.value.state_dict(),
                "optimiser": self.learner.optimiser.state_dict(),
                "alarm": self.alarm,
                "good": self.good,
                "good_iteration": self.good_iteration,
                "start": msgspec.to_builtins(self.start),
                "log": self.log.size(),
                "pool": self.pool.size(),
            },
        )

    def loop(self) -> None:
        """Iterate to the end, or until reward and gold part."""
        config = self.config
        if self.start is None:
            self.start = self.validation.look(self.learner.policy)
            self.log.write({"iteration": 0, "validation": self.validation.summary(self.start)})
        while self.done < config.iterations and not self.alarm:
            self.iterate()
            if self.done % config.evaluate_every == 0 or self.done == config.iterations:
                self.evaluate()
            if self.done % config.save_every == 0 or self.done == config.iterations or self.alarm:
                self.save()
                draw(self.log.path, self.out / "curves.svg")

    def iterate(self) -> None:
        """Sample, judge, learn, log; every sample goes to the pool."""
        config, learner, started = self.config, self.learner, time.monotonic()
        asked = _portion(self.asked, self.done, config.prompts_per_iteration, self.seed)
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
        )
        texts = [reply_text(self.tokenizer, reply) for reply in replies]
        sampled = time.monotonic()
        worths = self.judge(asked, texts, [reply.finished for reply in replies])
        judged = time.monotonic()
        batch = rollout(prompts, replies, eos).to(self.device)
        learner.anneal(self.done)
        targets = learner.targets(batch, torch.tensor([worth.total for worth in worths]))
        means = learner.update(batch, targets, derived_seed(self.seed, "minibatches", self.done))
        kls = targets.kl.sum(-1).tolist()
        self.done += 1
        self.pool.append(
            Experience(
                prompt_id=a.id,
                task=a.task,
                reply=text,
                reward=round(worth.total, 4),
                kl=round(kl, 4),
                iteration=self.done,
                finished=reply.finished,
                rm=None if worth.rm is None else round(worth.rm, 4),
                rules=worth.rules,
                vetoed=worth.vetoed,
                gold=worth.gold if a.rules else None,
            )
            for a, text, reply, worth, kl in zip(asked, texts, replies, worths, kls, strict=True)
        )
        self.log.write(
            {
                "iteration": self.done,
                "reward": _mean(worth.total for worth in worths),
                "rm": _mean(worth.rm for worth in worths if worth.rm is not None),
                "rules": _mean(worth.rules for worth in worths if worth.rules is not None),
                "gold": _mean(
                    worth.gold for worth, a in zip(worths, asked, strict=True) if a.rules
                ),
                "kl": _mean(kls),
                "length": _mean(len(reply.ids) for reply in replies),
                "truncated": _mean(not reply.finished for reply in replies),
                "vetoed": _mean(worth.vetoed for worth in worths),
                **{key: round(value, 5) for key, value in means.items()},
                "seconds": [
                    round(seconds, 2)
                    for seconds in (sampled - started, judged - sampled, time.monotonic() - judged)
                ],
            }
        )

    def evaluate(self) -> None:
        """Look at the validation prompts; keep the policy if all is well, sound the alarm if not."""
        assert self.start is not None
        now = self.validation.look(self.learner.policy)
        alarm: Alarm | None = self.validation.parted(self.start, now, self.config.alpha)
        row: dict[str, Any] = {"iteration": self.done, "validation": self.validation.summary(now)}
        if alarm:
            row["alarm"] = str(alarm)
        self.log.write(row)
        if alarm and self.config.guards:
            self.alarm = str(alarm)
            return
        self.good, self.good_iteration = _weights(self.learner.policy), self.done

    def write(self) -> None:
        """Write the last good policy as the checkpoint, with its log and card."""
        policy = self.learner.policy
        policy.load_state_dict(self.good)
        parent = str(read_card(self.parent).get("name", self.config.parent))
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
            policy.to("cpu"),
            tokenizer=self.parent,
            recipe=self.recipe,
            section=self.out.name,
            step=self.good_iteration,
            parent=parent,
            template=TEMPLATES[self.config.template].chat_template,
            files={"README.md": card, "train_log.jsonl": shipped_log(self.log.path)},
        )


def _chosen(file: Path, tasks: tuple[str, ...]) -> list[Asked]:
    asked = [a for a in read_prompts(file) if not tasks or a.task in tasks]
    missing = set(tasks) - {a.task for a in asked}
    if missing or not asked:
        raise BadData(f"no prompt of {', '.join(sorted(missing)) or 'any task'}", where=str(file))
    return asked


def _portion(asked: Sequence[Asked], iteration: int, size: int, seed: int) -> list[Asked]:
    """The prompts of an iteration: the file in a new order each time it has been gone through."""
    chosen: list[Asked] = []
    for place in range(iteration * size, (iteration + 1) * size):
        epoch, index = divmod(place, len(asked))
        if not chosen or index == 0:
            order = list(range(len(asked)))
            Random(f"{seed}/prompts/{epoch}").shuffle(order)
        chosen.append(asked[order[index]])
    return chosen


def _weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone().cpu() for name, tensor in model.state_dict().items()}


def _mean(values: Any) -> float | None:
    numbers = [float(value) for value in values]
    return round(sum(numbers) / len(numbers), 4) if numbers else None
