"""Generation against transformers' own, against a forward pass without a cache, and against statistics."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from evalsuite_train.errors import TrainError
from evalsuite_train.generation import derived_seed, generate, left_padded, reply_text
from evalsuite_train.model import Shape, new_model
from scipy.stats import chisquare

EOS = 2
TOKENS = 60


@pytest.fixture(scope="module")
def model():
    shape = Shape(
        hidden=32,
        layers=2,
        heads=4,
        key_value_heads=2,
        feed_forward=64,
        context=64,
        initializer_range=0.3,
    )
    return new_model(shape, 64, seed=1).eval()


@pytest.fixture(scope="module")
def prompts():
    draw = random.Random(1)
    return [
        [1, *(draw.randrange(3, TOKENS) for _ in range(draw.randrange(1, 12)))] for _ in range(20)
    ]


def test_greedy_replies_are_those_of_transformers(model, prompts):
    found = generate(model, prompts, max_new_tokens=12, temperature=0, eos=EOS, batch=7)
    for prompt, reply in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        whole = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=EOS,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        said = [*reply.ids, EOS] if reply.finished else reply.ids
        assert said == whole
    assert len({tuple(reply.ids) for reply in found}) > 5


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_log_probabilities_are_those_of_a_forward_pass_without_cache(model, prompts, temperature):
    found = generate(
        model, prompts, max_new_tokens=10, temperature=temperature, seed=3, eos=EOS, allowed=TOKENS
    )
    assert {reply.finished for reply in found} == {True, False}
    for prompt, reply in zip(prompts, found, strict=True):
        said = [*reply.ids, EOS] if reply.finished else reply.ids
        with torch.no_grad():
            logits = model(torch.tensor([prompt + said])).logits[0, len(prompt) - 1 : -1, :TOKENS]
        expected = (logits / temperature).log_softmax(-1)[range(len(said)), said]
        assert reply.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_reply_depends_on_the_seed_and_not_on_its_batch(model, prompts):
    def sampled(seed, batch):
        return generate(
            model, prompts, max_new_tokens=10, temperature=1.0, seed=seed, eos=EOS, batch=batch
        )

    whole = sampled(1, 128)
    assert [r.ids for r in whole] == [r.ids for r in sampled(1, 3)]
    assert [r.ids for r in whole] != [r.ids for r in sampled(2, 128)]


def test_sampled_tokens_follow_the_distribution(model):
    prompt, draws = [1, 5, 9], 4000
    found = generate(
        model,
        [prompt] * draws,
        max_new_tokens=1,
        temperature=1.3,
        seed=5,
        eos=-1,
        allowed=TOKENS,
        batch=draws,
    )
    with torch.no_grad():
        expected = (model(torch.tensor([prompt])).logits[0, -1, :TOKENS] / 1.3).softmax(-1).double()
    counts = Counter(reply.ids[0] for reply in found)
    common = [i for i in range(TOKENS) if expected[i] * draws >= 5]
    observed = [counts[i] for i in common] + [draws - sum(counts[i] for i in common)]
    mass = [expected[i].item() * draws for i in common]
    assert chisquare(observed, [*mass, draws - sum(mass)]).pvalue > 1e-3


def test_top_p_keeps_the_smallest_set_that_reaches_it(model):
    prompt = [1, 5, 9]
    found = generate(
        model,
        [prompt] * 500,
        max_new_tokens=1,
        temperature=1.0,
        top_p=0.5,
        seed=5,
        eos=-1,
        batch=500,
    )
    with torch.no_grad():
        ranked, order = (
            model(torch.tensor([prompt])).logits[0, -1].softmax(-1).sort(descending=True)
        )
    size = int((ranked.cumsum(-1) < 0.5).sum()) + 1
    assert {reply.ids[0] for reply in found} == set(order[:size].tolist())


def test_pitfall_ids_beyond_the_tokenizer_are_never_generated(model, prompts):
    """Rows padded to a multiple of 128 hold no token: even if they are the likeliest."""
    padded = new_model(
        Shape(hidden=32, layers=1, heads=4, key_value_heads=2, feed_forward=64), 64, 1
    ).eval()
    with torch.no_grad():
        padded.get_input_embeddings().weight[TOKENS:] *= 100
        likeliest = padded(torch.tensor(prompts[:1])).logits[0, -1].abs().argmax()
    assert likeliest >= TOKENS
    for temperature in (0.0, 1.0):
        found = generate(
            padded, prompts, max_new_tokens=8, temperature=temperature, seed=1, allowed=TOKENS
        )
        assert max(i for reply in found for i in reply.ids) < TOKENS


def test_positions_count_real_tokens_from_zero():
    ids, mask, place = left_padded([[7, 8, 9], [5]], pad=0)
    assert ids.tolist() == [[7, 8, 9], [0, 0, 5]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert place.tolist() == [[0, 1, 2], [0, 0, 0]]


def test_the_model_keeps_its_mode(model, prompts):
    model.train()
    generate(model, prompts[:2], max_new_tokens=2, temperature=0)
    assert model.training
    model.eval()


def test_no_prompts_no_replies(model):
    assert generate(model, [], max_new_tokens=3, temperature=0) == []


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ([[1], []], {}, "prompt 1: 0 tokens"),
        ([[1] * 60], {}, "prompt 0: 60 tokens and a reply of 8 do not fit 1–64"),
        ([[1]], {"pad": EOS}, "padding token is EOS"),
    ],
)
def test_what_cannot_be_generated_is_named(model, prompts, settings, message):
    with pytest.raises(TrainError, match=message):
        generate(model, prompts, max_new_tokens=8, temperature=0, eos=EOS, **settings)


def test_reply_text_has_no_control_tokens(checkpoint_path):
    from evalsuite_train.checkpoint import load_tokenizer
    from evalsuite_train.generation import Reply

    tokenizer = load_tokenizer(checkpoint_path)
    ids = tokenizer("你好，有什么", add_special_tokens=False)["input_ids"]
    assert reply_text(tokenizer, Reply([1, *ids], True, [])) == "你好，有什么"


def test_derived_seeds_differ_by_purpose_and_stay():
    assert derived_seed(1, "ppo", "rollout", 3) == derived_seed(1, "ppo", "rollout", 3)
    assert len({derived_seed(1, what, i) for what in "ab" for i in range(50)}) == 100
