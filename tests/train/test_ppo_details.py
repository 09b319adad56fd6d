"""The implementation details of PPO from human feedback, one test each (Huang et al., arXiv 2403.17031).

Truth is a naive loop, numpy, a hand-written formula, or finite differences; never the code itself.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evalsuite_train.errors import Diverged
from evalsuite_train.feedback.rows import Asked
from evalsuite_train.generation import PAD, Reply, generate
from evalsuite_train.model import Shape, new_model
from evalsuite_train.ppo.advantages import generalised_advantages, masked_mean, whiten
from evalsuite_train.ppo.config import Config
from evalsuite_train.ppo.learner import Learner
from evalsuite_train.ppo.losses import kl_estimate, policy_loss, value_loss
from evalsuite_train.ppo.reward import Judge, token_rewards
from evalsuite_train.ppo.rollout import logprobs, rollout
from evalsuite_train.ppo.value_head import ValueHead, ValueModel
from evalsuite_train.rules import read_rules

EOS, ALLOWED = 2, 40
SHAPE = Shape(
    hidden=32,
    layers=2,
    heads=4,
    key_value_heads=2,
    feed_forward=64,
    context=64,
    initializer_range=0.2,
)


@pytest.fixture
def policy():
    return new_model(SHAPE, 48, seed=1).eval()


@pytest.fixture
def prompts():
    return [[1, 5, 6, 7, 8], [1, 9], [1, 10, 11]]


@pytest.fixture
def replies():
    return [Reply([12, 13], True, []), Reply([14, 15, 0, 16], False, []), Reply([], True, [])]


def ragged(rows=6, width=9, seed=0):
    """Random numbers (rows, width) and a mask of left-aligned actions."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(
        [width, 1, *torch.randint(1, width + 1, (rows - 2,), generator=draw).tolist()]
    )
    mask = torch.arange(width) < lengths[:, None]
    return [torch.randn(rows, width, generator=draw) for _ in range(4)], mask


def learner(policy, **changes):
    return Learner(policy, None, Config(device="cpu", precision="fp32", **changes), ALLOWED)


def test_ppo_detail_left_padded_rollouts_with_replies_at_one_column(prompts, replies):
    batch = rollout(prompts, replies, EOS)
    assert batch.start == 5
    assert batch.ids.tolist() == [
        [1, 5, 6, 7, 8, 12, 13, EOS, 0],
        [0, 0, 0, 1, 9, 14, 15, 0, 16],
        [0, 0, 1, 10, 11, EOS, 0, 0, 0],
    ]
    # A padding id that the model itself said is an action, padding is not.
    assert batch.actions.tolist() == [[True] * 3 + [False], [True] * 4, [True] + [False] * 3]


def test_ppo_detail_position_ids_make_left_padding_invisible(policy, prompts, replies):
    batch = rollout(prompts, replies, EOS)
    found = logprobs(policy, batch, temperature=1.0, allowed=48).logprobs
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        said = [*reply.ids, EOS] if reply.finished else reply.ids
        with torch.no_grad():
            logits = policy(torch.tensor([prompt + said])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1)[range(len(said)), said]
        torch.testing.assert_close(found[row, : len(said)], expected, atol=1e-5, rtol=0)
        assert (found[row, len(said) :] == 0).all()


def test_ppo_detail_trimming_a_minibatch_changes_nothing(policy, prompts, replies):
    batch = rollout(prompts, replies, EOS)
    whole = logprobs(policy, batch, temperature=1.0, allowed=ALLOWED).logprobs
    some = batch.rows(torch.tensor([2, 1]))
    assert some.ids.shape == (2, 7)
    part = logprobs(policy, some, temperature=1.0, allowed=ALLOWED).logprobs
    torch.testing.assert_close(part, whole[[2, 1]], atol=1e-5, rtol=0)


def test_ppo_detail_pad_is_not_eos(policy, prompts):
    assert PAD != EOS
    with pytest.raises(Exception, match="padding token is EOS"):
        generate(policy, prompts, max_new_tokens=2, temperature=1.0, eos=PAD)


def test_ppo_detail_temperature_in_log_probabilities(policy, prompts):
    sampled = generate(
        policy, prompts, max_new_tokens=8, temperature=0.7, seed=1, eos=EOS, allowed=ALLOWED
    )
    batch = rollout(prompts, sampled, EOS)
    found = logprobs(policy, batch, temperature=0.7, allowed=ALLOWED).logprobs
    for row, reply in enumerate(sampled):
        assert found[row, : len(reply.logprobs)].tolist() == pytest.approx(reply.logprobs, abs=1e-4)


def test_ppo_detail_ids_beyond_the_tokenizer_have_no_share(policy, prompts, replies):
    batch = rollout(prompts, replies, EOS)
    logits = policy(batch.ids[:1]).logits[0, 4:7]
    expected = logits[:, :ALLOWED].log_softmax(-1)[range(3), [12, 13, EOS]]
    found = logprobs(policy, batch, temperature=1.0, allowed=ALLOWED).logprobs[0, :3]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_ppo_detail_score_on_the_eos_token(prompts, replies):
    batch = rollout(prompts, replies, EOS)
    zeros = torch.zeros(3, 4)
    rewards = token_rewards(torch.tensor([3.0, -4.0, 5.0]), zeros, zeros, batch.actions, kl=0.1)
    assert rewards.tolist() == [[0, 0, 3, 0], [0, 0, 0, -4], [5, 0, 0, 0]]
    assert batch.ids[0, batch.start + 2] == EOS
    assert batch.ids[2, batch.start] == EOS


def test_ppo_detail_per_token_kl_penalty_with_a_fixed_coefficient():
    (own, reference, *_), mask = ragged()
    worth = torch.arange(6.0)
    rewards = token_rewards(worth, own, reference, mask, kl=0.05)
    for row in range(6):
        length = int(mask[row].sum())
        for step in range(length):
            expected = -0.05 * (own[row, step] - reference[row, step])
            expected += worth[row] if step == length - 1 else 0
            assert rewards[row, step].item() == pytest.approx(expected.item(), abs=1e-6)
        assert (rewards[row, length:] == 0).all()


def test_ppo_detail_missing_eos_gets_a_fixed_low_value():
    rules = read_rules([{"type": "contains", "value": "好"}])
    asked = [Asked("1", "问", "wishes", rules)] * 3
    judge = Judge(None, rm_weight=1, rules_weight=1, veto=True, rm_clip=3, penalty=1.0)
    worths = judge(asked, ["好", "坏", "好"], [True, True, False])
    assert [worth.total for worth in worths] == [1.0, 0.0, -1.0]


def test_ppo_detail_gae_is_the_double_sum():
    (rewards, values, *_), mask = ragged()
    gamma, lambda_ = 0.97, 0.9
    found = generalised_advantages(rewards, values, mask, gamma=gamma, lambda_=lambda_)
    for row in range(len(mask)):
        length = int(mask[row].sum())
        r, v = rewards[row].tolist(), [*values[row, :length].tolist(), 0.0]
        for t in range(length):
            expected = sum(
                (gamma * lambda_) ** k * (r[t + k] + gamma * v[t + k + 1] - v[t + k])
                for k in range(length - t)
            )
            assert found[row, t].item() == pytest.approx(expected, abs=1e-5)
        assert (found[row, length:] == 0).all()


def test_ppo_detail_gae_with_lambda_one_is_return_minus_value():
    (rewards, values, *_), mask = ragged(seed=4)
    found = generalised_advantages(rewards, values, mask, gamma=1.0, lambda_=1.0)
    to_go = (rewards * mask).flip(-1).cumsum(-1).flip(-1)
    torch.testing.assert_close(found, (to_go - values) * mask)


def test_ppo_detail_defaults_are_those_of_the_paper():
    config = Config()
    assert (config.gamma, config.lambda_) == (1.0, 0.95)
    assert (config.clip, config.value_clip, config.value_weight) == (0.2, 0.2, 0.1)
    assert 0.02 <= config.kl <= 0.05


@pytest.mark.parametrize("shift_mean", [True, False])
def test_ppo_detail_masked_whitening_is_numpys(shift_mean):
    (values, *_), mask = ragged(seed=2)
    found = whiten(values * 3 + 5, mask, shift_mean=shift_mean)
    real = (values * 3 + 5)[mask].numpy().astype(np.float64)
    expected = (real - real.mean()) / real.std() + (0 if shift_mean else real.mean())
    np.testing.assert_allclose(found[mask].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert (found[~mask] == 0).all()


def test_ppo_detail_rewards_can_be_whitened_without_moving_their_mean(policy, prompts, replies):
    batch, worth = rollout(prompts, replies, EOS), torch.tensor([4.0, 2.0, 3.0])
    plain = learner(policy, kl=0.0, lambda_=1.0).targets(batch, worth)
    white = learner(policy, kl=0.0, lambda_=1.0, whiten_rewards=True).targets(batch, worth)
    # With V = 0 and γ = λ = 1 the first return is the sum of a reply's rewards.
    tokens = np.array([0, 0, 4, 0, 0, 0, 2, 3.0])
    whitened = (tokens - tokens.mean()) / tokens.std() + tokens.mean()
    assert plain.returns[:, 0].tolist() == pytest.approx([4, 2, 3])
    sums = [whitened[:3].sum(), whitened[3:7].sum(), whitened[7]]
    assert white.returns[:, 0].tolist() == pytest.approx(sums, rel=1e-4)


def test_ppo_detail_means_are_over_tokens_not_padding():
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, 100.0, 100.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_mean(values, mask).item() == pytest.approx(3.0)


def test_ppo_detail_clipped_policy_loss_is_numpys():
    (new, old, advantages, _), mask = ragged(seed=3)
    found = policy_loss(new, old, advantages, mask, clip=0.2)
    losses, clipped = [], []
    for n, o, a in zip(
        new[mask].tolist(), old[mask].tolist(), advantages[mask].tolist(), strict=True
    ):
        ratio = np.exp(n - o)
        low = -a * ratio
        high = -a * min(max(ratio, 0.8), 1.2)
        losses.append(max(low, high))
        clipped.append(high > low)
    assert found.loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.clipped.item() == pytest.approx(np.mean(clipped))
    assert 0 < np.mean(clipped) < 1


def test_ppo_detail_clipped_value_loss_is_numpys():
    (new, old, returns, _), mask = ragged(seed=5)
    found = value_loss(new, old, returns, mask, clip=0.2)
    losses = []
    for n, o, r in zip(new[mask].tolist(), old[mask].tolist(), returns[mask].tolist(), strict=True):
        near = o + min(max(n - o, -0.2), 0.2)
        losses.append(0.5 * max((n - r) ** 2, (near - r) ** 2))
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_ppo_detail_gradients_of_the_losses_are_finite_differences():
    (new, old, advantages, _), mask = ragged(seed=6)
    new, old, advantages = new.double(), old.double(), advantages.double()
    new.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda x: policy_loss(x, old, advantages, mask, 0.2).loss, (new,)
    )
    assert torch.autograd.gradcheck(lambda x: value_loss(x, old, advantages, mask, 0.2), (new,))
    # Outside the clip, on the side the advantage pushes to, nothing is learnt.
    outside = (((new - old).exp() > 1.2) & (advantages > 0)) | (
        ((new - old).exp() < 0.8) & (advantages < 0)
    )
    policy_loss(new, old, advantages, mask, 0.2).loss.backward()
    assert (new.grad[outside] == 0).all()
    assert (new.grad[mask & ~outside] != 0).all()


def test_ppo_detail_kl_estimate_is_unbiased_and_never_negative():
    p = torch.tensor([0.5, 0.3, 0.2]).double()
    q = torch.tensor([0.2, 0.5, 0.3]).double()
    estimates = kl_estimate(q.log() - p.log())
    assert (estimates >= 0).all()
    assert (p * estimates).sum().item() == pytest.approx((p * (p / q).log()).sum().item())


@pytest.mark.parametrize("separate", [False, True])
def test_ppo_detail_value_head_starts_at_zero(policy, prompts, replies, separate):
    batch = rollout(prompts, replies, EOS)
    backbone = policy.get_decoder() if separate else None
    mine = Learner(policy, backbone, Config(device="cpu"), ALLOWED)
    assert isinstance(mine.value, ValueModel if separate else ValueHead)
    assert (mine.view(batch).values == 0).all()
    before = policy.get_decoder().layers[0].mlp.up_proj.weight
    if separate:
        assert mine.value.backbone.layers[0].mlp.up_proj.weight is not before


def test_ppo_detail_adam_epsilon(policy):
    mine = learner(policy)
    assert type(mine.optimiser) is torch.optim.Adam
    assert {group["eps"] for group in mine.optimiser.param_groups} == {1e-5}


def test_ppo_detail_learning_rate_is_annealed_to_zero(policy):
    mine = learner(policy, iterations=4, learning_rate=0.1, value_learning_rate=0.4)
    rates = []
    for iteration in range(4):
        mine.anneal(iteration)
        rates.append([group["lr"] for group in mine.optimiser.param_groups])
    np.testing.assert_allclose(rates, [[0.1, 0.4], [0.075, 0.3], [0.05, 0.2], [0.025, 0.1]])


@pytest.mark.parametrize("recomputed", [False, True])
def test_gradient_checkpointing_recomputes_policy_and_value_model(
    policy, prompts, replies, recomputed
):
    """Each layer runs a second time for the backward pass, in the value model too; the result is the same."""
    settings = {"epochs": 1, "minibatches": 1, "learning_rate": 1e-3, "precision": "fp32"}
    runs = {}
    for on in {False, recomputed}:
        ours = new_model(SHAPE, 48, seed=1).eval()
        config = Config(device="cpu", gradient_checkpointing=on, **settings)
        mine = Learner(ours, ours.get_decoder(), config, ALLOWED)
        batch = rollout(prompts, replies, EOS)
        targets = mine.targets(batch, torch.tensor([1.0, -1.0, 0.5]))
        calls = []
        for decoder in (ours.get_decoder(), mine.value.backbone):
            decoder.layers[0].mlp.register_forward_pre_hook(lambda mlp, _, to=calls: to.append(mlp))
        mine.update(batch, targets, seed=1)
        assert all(
            calls.count(decoder.layers[0].mlp) == 1 + on
            for decoder in (ours.get_decoder(), mine.value.backbone)
        )
        assert not any(model.training for model in (ours, mine.value))
        runs[on] = [*ours.state_dict().values(), *mine.value.state_dict().values()]
    for with_it, without in zip(runs[recomputed], runs[False], strict=True):
        torch.testing.assert_close(with_it, without)


def test_ppo_detail_no_dropout(prompts, replies):
    policy = new_model(SHAPE, 48, seed=1)
    policy.config.attention_dropout = 0.5
    for layer in policy.model.layers:
        layer.self_attn.attention_dropout = 0.5
    policy.model.layers[0].mlp.dropout = torch.nn.Dropout(0.5)
    mine = learner(policy.train())
    batch = rollout(prompts, replies, EOS)
    assert torch.equal(mine.view(batch).logprobs, mine.view(batch).logprobs)
    assert policy.model.layers[0].mlp.dropout.p == 0


def test_ppo_detail_old_log_probabilities_are_the_rollout_policys(policy, prompts):
    """Before the first update every ratio is 1, so nothing is clipped and the KL is 0."""
    mine = learner(policy, epochs=1, minibatches=1, learning_rate=1e-3)
    sampled = generate(
        policy, prompts * 4, max_new_tokens=8, temperature=1.0, seed=1, eos=EOS, allowed=ALLOWED
    )
    batch = rollout(prompts * 4, sampled, EOS)
    targets = mine.targets(batch, torch.randn(12, generator=torch.Generator().manual_seed(1)))
    for row, reply in enumerate(sampled):
        assert targets.old.logprobs[row, : len(reply.logprobs)].tolist() == pytest.approx(
            reply.logprobs, abs=1e-4
        )
    means = mine.update(batch, targets, seed=1)
    assert means["clipped"] == 0
    assert means["policy_kl"] == pytest.approx(0, abs=1e-9)
    # The second update of the same samples is no longer at the rollout policy.
    assert mine.update(batch, targets, seed=2)["policy_kl"] > 1e-6


def test_ppo_detail_reference_is_frozen(policy, prompts, replies):
    mine = learner(policy, learning_rate=1e-2, minibatches=1)
    batch = rollout(prompts, replies, EOS)
    before = {k: v.clone() for k, v in mine.reference.state_dict().items()}
    targets = mine.targets(batch, torch.tensor([1.0, -1.0, 0.5]))
    assert targets.kl.abs().max() < 1e-5
    mine.update(batch, targets, seed=1)
    assert all(torch.equal(v, before[k]) for k, v in mine.reference.state_dict().items())
    assert not any(p.requires_grad for p in mine.reference.parameters())
    assert mine.targets(batch, torch.tensor([1.0, -1.0, 0.5])).kl.abs().max() > 1e-3


def test_ppo_detail_minibatches_and_epochs(policy, prompts):
    """epochs × minibatches updates, every sample once an epoch, in a new order each time."""
    mine = learner(policy, epochs=3, minibatches=4)
    sampled = generate(
        policy, prompts * 4, max_new_tokens=4, temperature=1.0, seed=1, eos=EOS, allowed=ALLOWED
    )
    batch = rollout(prompts * 4, sampled, EOS)
    seen = []
    step = mine._step
    mine._step = lambda some, targets, rows, kept: (
        seen.append(rows.tolist()) or step(some, targets, rows, kept)
    )
    mine.update(batch, mine.targets(batch, torch.randn(12)), seed=1)
    assert [len(rows) for rows in seen] == [3] * 12
    epochs = [[row for rows in seen[i : i + 4] for row in rows] for i in (0, 4, 8)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_update_is_pytorchs_own_on_a_hand_written_loss(policy, prompts, replies):
    """One update of policy and value head against Adam on the whole formula, written out in full."""
    import copy

    twin = copy.deepcopy(policy)
    mine = learner(
        policy,
        epochs=1,
        minibatches=1,
        learning_rate=1e-3,
        value_learning_rate=1e-2,
        gradient_clip=1e9,
    )
    batch = rollout(prompts, replies, EOS)
    targets = mine.targets(batch, torch.tensor([1.0, -1.0, 0.5]))
    mine.update(batch, targets, seed=1)

    head = torch.nn.Linear(32, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    losses, values = [], []
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        said = [*reply.ids, EOS] if reply.finished else reply.ids
        out = twin(torch.tensor([prompt + said]), output_hidden_states=True)
        own = out.logits[0, len(prompt) - 1 : -1, :ALLOWED].log_softmax(-1)[range(len(said)), said]
        guess = head(out.hidden_states[-1][0, len(prompt) - 1 : -1])[:, 0]
        for t in range(len(said)):
            losses.append(-targets.advantages[row, t] * (own[t] - own[t].detach()).exp())
            values.append(0.5 * (guess[t] - targets.returns[row, t]) ** 2)
    loss = torch.stack(losses).mean() + 0.1 * torch.stack(values).mean()
    optimiser = torch.optim.Adam(
        [{"params": twin.parameters(), "lr": 1e-3}, {"params": head.parameters(), "lr": 1e-2}],
        eps=1e-5,
    )
    loss.backward()
    optimiser.step()
    for (name, mine_), other in zip(policy.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine_, other, atol=2e-5, rtol=0, msg=name)
    torch.testing.assert_close(mine.value.linear.weight, head.weight, atol=1e-5, rtol=0)


def test_a_loss_that_is_not_a_number_is_not_applied(policy, prompts, replies):
    mine = learner(policy)
    batch = rollout(prompts, replies, EOS)
    targets = mine.targets(batch, torch.tensor([1.0, float("nan"), 0.5]))
    before = [p.clone() for p in policy.parameters()]
    with pytest.raises(Diverged, match="not a number"):
        mine.update(batch, targets, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
