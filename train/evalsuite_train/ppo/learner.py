"""The policy and its value function, and how one iteration's samples change them."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evalsuite_train.errors import Diverged
from evalsuite_train.ppo.advantages import generalised_advantages, masked_mean, whiten
from evalsuite_train.ppo.config import Config
from evalsuite_train.ppo.losses import policy_loss, value_loss
from evalsuite_train.ppo.reward import token_rewards
from evalsuite_train.ppo.rollout import Rollout, logprobs, spread, states
from evalsuite_train.ppo.value_head import ValueHead, ValueModel, disable_dropout

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

    Args:
        policy: a causal language model, changed in place; its copy becomes the frozen reference.
        backbone: what a separate value model starts from; None puts the head on the policy.
        allowed: how many ids the tokenizer has.
    """

    def __init__(self, policy: Any, backbone: Any | None, config: Config, allowed: int) -> None:
        self.policy, self.config, self.allowed = policy, config, allowed
        disable_dropout(policy)
        self.reference = copy.deepcopy(policy).eval().requires_grad_(False)
        self.value: nn.Module = (
            ValueHead(int(policy.config.hidden_size)) if backbone is None else ValueModel(backbone)
        )
        self.value.to(next(policy.parameters()).device)
        if config.gradient_checkpointing:
            policy.gradient_checkpointing_enable()
        self.autocast = torch.bfloat16 if config.precision == "bf16" else None
        rate = config.value_learning_rate or config.learning_rate
        # Adam's epsilon is 1e-5, as in OpenAI's implementation: early updates are smaller.
        self.optimiser = torch.optim.Adam(
            [
                {"params": list(policy.parameters()), "lr": config.learning_rate},
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
        said = logprobs(
            self.policy,
            batch,
            temperature=self.config.temperature,
            allowed=self.allowed,
            autocast=self.autocast,
        )
        if isinstance(self.value, ValueModel):
            values = self.value.head(states(self.value.backbone, batch, self.autocast))
        else:
            values = self.value(said.hidden)
        return View(said.logprobs, spread(values, batch.actions), said.entropy)

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
        for rows in torch.split(order, CHUNK):
            some = batch.rows(rows)
            own = self.view(some)
            reference = logprobs(
                self.reference,
                some,
                temperature=self.config.temperature,
                allowed=self.allowed,
                autocast=self.autocast,
            )
            for whole, part in zip(parts, (*own, reference.logprobs), strict=True):
                whole[rows, : part.shape[1]] = part
        return View(*parts[:3]), parts[3]

    def update(self, batch: Rollout, targets: Targets, seed: int) -> dict[str, float]:
        """Learn from a rollout in shuffled minibatches; returns means over the updates."""
        generator = torch.Generator().manual_seed(seed)
        sums: dict[str, float] = {}
        count = 0
        for _ in range(self.config.epochs):
            order = torch.randperm(len(batch.ids), generator=generator).to(batch.ids.device)
            for rows in order.tensor_split(self.config.minibatches):
                for key, value in self._step(batch.rows(rows), targets, rows).items():
                    sums[key] = sums.get(key, 0.0) + value
                count += 1
        return {key: value / count for key, value in sums.items()}

    def _step(self, some: Rollout, targets: Targets, rows: Tensor) -> dict[str, float]:
        config, mask = self.config, some.actions
        width = mask.shape[1]
        old, advantages, returns = (
            View(*(part[rows, :width] for part in targets.old)),
            targets.advantages[rows, :width],
            targets.returns[rows, :width],
        )
        now = self.view(some)
        policy = policy_loss(now.logprobs, old.logprobs, advantages, mask, config.clip)
        values = value_loss(now.values, old.values, returns, mask, config.value_clip)
        loss = policy.loss + config.value_weight * values
        if not torch.isfinite(loss):
            raise Diverged("the loss is not a number", where="ppo", hint="lower learning_rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimiser.param_groups:
            nn.utils.clip_grad_norm_(group["params"], config.gradient_clip)
        self.optimiser.step()
        return {
            "policy_loss": policy.loss.item(),
            "value_loss": values.item(),
            "clipped": policy.clipped.item(),
            "policy_kl": policy.kl.item(),
            "entropy": masked_mean(now.entropy, mask).item(),
        }
