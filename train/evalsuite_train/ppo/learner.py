"""The policy and its value function, and how one iteration's samples change them."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evalsuite_train.errors import Diverged
from evalsuite_train.generation import derived_seed
from evalsuite_train.ppo.advantages import generalised_advantages, masked_mean, whiten
from evalsuite_train.ppo.config import Config
from evalsuite_train.ppo.losses import policy_loss, value_loss
from evalsuite_train.ppo.retained import Retained
from evalsuite_train.ppo.reward import token_rewards
from evalsuite_train.ppo.rollout import Rollout, Said, logprobs, spread
from evalsuite_train.ppo.value_head import ValueHead, ValueModel, disable_dropout
from evalsuite_train.processes import ALONE, Processes
from evalsuite_train.sharding import share_out

CHUNK = 64  # rows at once where nothing is learnt


class View(NamedTuple):
    """What policy and value function say of a rollout's actions, each (B, R)."""

    logprobs: Tensor
    values: Tensor
    entropy: Tensor


class Targets(NamedTuple):
    """What one iteration's updates are made from, each (B, R)."""

    old: View
    advantages: Tensor
    returns: Tensor
    kl: Tensor


class Learner:
    """A policy under PPO.

    Several processes each compute a share of the rows; rollouts, rewards and advantages are small,
    and every process has all of them.

    Args:
        policy: a causal language model, changed in place; its copy becomes the frozen reference.
        backbone: what a separate value model starts from; None puts the head on the policy.
        allowed: how many ids the tokenizer has.
        retained: conversations that are learnt beside the reward.
    """

    def __init__(
        self,
        policy: Any,
        backbone: Any | None,
        config: Config,
        allowed: int,
        processes: Processes = ALONE,
        retained: Retained | None = None,
    ) -> None:
        self.config, self.allowed, self.processes = config, allowed, processes
        self.retained = retained
        self.autocast = torch.bfloat16 if config.precision == "bf16" else None
        precision = self.autocast or torch.float32
        disable_dropout(policy)
        value = (
            ValueHead(int(policy.config.hidden_size)) if backbone is None else ValueModel(backbone)
        )
        reference = copy.deepcopy(policy) if processes.size == 1 else policy
        self.reference = share_out(reference, processes, precision, frozen=True)
        policy.requires_grad_(True)
        if config.gradient_checkpointing:
            policy.gradient_checkpointing_enable()
            if isinstance(value, ValueModel):
                value.backbone.gradient_checkpointing_enable()
        self.policy = share_out(policy, processes, precision)
        self.value: nn.Module = share_out(value, processes, precision)
        rate = config.value_learning_rate or config.learning_rate
        # Adam's epsilon is 1e-5, as in OpenAI's implementation: early updates are smaller.
        self.optimiser = torch.optim.Adam(
            [
                {"params": list(self.policy.parameters()), "lr": config.learning_rate},
                {"params": list(self.value.parameters()), "lr": rate},
            ],
            eps=1e-5,
        )
        self.rates = (config.learning_rate, rate)

    def anneal(self, iteration: int) -> None:
        """Set the learning rates of an iteration, counted from 0."""
        share = 1 - iteration / self.config.iterations if self.config.anneal else 1.0
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * share

    def view(self, batch: Rollout) -> View:
        """What the current policy and value function say; with gradients where they are on."""
        said = self._said(self.policy, batch)
        if isinstance(self.value, ValueModel):
            values = self.value(batch, self.autocast)
        else:
            values = self.value(said.hidden)
        return View(said.logprobs, spread(values, batch.actions), said.entropy)

    def _said(self, model: Any, batch: Rollout) -> Said:
        return logprobs(
            model,
            batch,
            temperature=self.config.temperature,
            allowed=self.allowed,
            autocast=self.autocast,
        )

    @torch.no_grad()
    def targets(self, batch: Rollout, worth: Tensor) -> Targets:
        """Rewards, advantages and returns of a fresh rollout; ``worth`` (B,) is each reply's reward."""
        config, mask = self.config, batch.actions
        old, reference = self._old(batch)
        rewards = token_rewards(worth, old.logprobs, reference, mask, config.kl)
        if config.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False)
        advantages = generalised_advantages(
            rewards, old.values, mask, gamma=config.gamma, lambda_=config.lambda_
        )
        returns = advantages + old.values
        return Targets(old, whiten(advantages, mask), returns, (old.logprobs - reference) * mask)

    def _old(self, batch: Rollout) -> tuple[View, Tensor]:
        """The rollout policy's view and the reference's log-probabilities, a few rows at a time."""
        parts = [torch.zeros(batch.actions.shape, device=batch.ids.device) for _ in range(4)]
        order = batch.mask.sum(-1).argsort(stable=True)
        for rows in torch.split(self._share(order), CHUNK):
            some = batch.rows(rows)
            own, reference = self.view(some), self._said(self.reference, some)
            for whole, part in zip(parts, (*own, reference.logprobs), strict=True):
                whole[rows, : part.shape[1]] = part
        parts = [self.processes.sum(part) for part in parts]
        return View(*parts[:3]), parts[3]

    def _share(self, rows: Tensor) -> Tensor:
        """This process's rows of some that all of them compute together."""
        return rows[self.processes.rank :: self.processes.size]

    def update(self, batch: Rollout, targets: Targets, seed: int) -> dict[str, float]:
        """Learn from a rollout in shuffled minibatches; returns means over the updates."""
        generator = torch.Generator().manual_seed(seed)
        sums: dict[str, float] = {}
        count = 0
        for _ in range(self.config.epochs):
            order = torch.randperm(len(batch.ids), generator=generator).to(batch.ids.device)
            for rows in order.tensor_split(self.config.minibatches):
                kept = derived_seed(seed, "update", count)
                for key, value in self._step(batch.rows(rows), targets, rows, kept).items():
                    sums[key] = sums.get(key, 0.0) + value
                count += 1
        return {key: value / count for key, value in sums.items()}

    def _step(self, some: Rollout, targets: Targets, rows: Tensor, kept: int) -> dict[str, float]:
        """One update from a minibatch, the ``rows`` of the rollout; this process computes its share.

        Args:
            kept: names the conversations that are learnt beside it.
        """
        config, tokens = self.config, some.actions.sum()
        # transformers recomputes in training mode alone; without dropout nothing else differs
        self.policy.train(config.gradient_checkpointing)
        self.value.train(config.gradient_checkpointing)
        some = some.rows(self._share(torch.arange(len(rows), device=rows.device)))
        rows, mask = self._share(rows), some.actions
        width = mask.shape[1]
        old, advantages, returns = (
            View(*(part[rows, :width] for part in targets.old)),
            targets.advantages[rows, :width],
            targets.returns[rows, :width],
        )
        now = self.view(some)
        policy = policy_loss(now.logprobs, old.logprobs, advantages, mask, config.clip, tokens)
        values = value_loss(now.values, old.values, returns, mask, config.value_clip, tokens)
        loss = policy.loss + config.value_weight * values
        seen = {
            "policy_loss": policy.loss,
            "value_loss": values,
            "clipped": policy.clipped,
            "policy_kl": policy.kl,
            "entropy": masked_mean(now.entropy, mask, tokens),
        }
        if self.retained is not None:
            seen["retained_loss"] = self.retained.loss(self.policy, kept, self.autocast)
            loss = loss + config.retain_weight * seen["retained_loss"]
        means = self.processes.sum(torch.stack([value.detach() for value in seen.values()]))
        losses = means[["loss" in name for name in seen]]
        if not torch.isfinite(losses).all():
            raise Diverged("the loss is not a number", where="ppo", hint="lower learning_rate")
        self.optimiser.zero_grad(set_to_none=True)
        # gradients of several processes are averaged, and theirs are parts of a sum
        (loss * self.processes.size).backward()  # type: ignore[no-untyped-call]
        for group in self.optimiser.param_groups:
            nn.utils.clip_grad_norm_(group["params"], config.gradient_clip)
        self.optimiser.step()
        self.policy.eval()
        self.value.eval()
        return dict(zip(seen, means.tolist(), strict=True))
