"""Generation against transformers' own ``generate`` and its logits processors."""

from __future__ import annotations

import json
import shutil
import warnings
from collections import Counter

import pytest
import torch
from contract import HEADER, ask, refuse_retries
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines._decoding import _LEAST_SHARED
from evalsuite.engines._sampling import draw, penalise, probabilities
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.request import Generate, Prompt, Sampling

PROMPTS = ["The quick", "今天天气很好，我们去", "题目：水稻\n答案是：", "5", HEADER + "题目："]


@pytest.fixture(autouse=True, scope="module")
def no_retries():
    with pytest.MonkeyPatch.context() as patch:
        refuse_retries(patch)
        yield


@pytest.fixture(scope="module")
def engine(checkpoint_path, native, module):
    opened = TransformersEngine(open_checkpoint(str(checkpoint_path)), native=native)
    opened.module = module  # transformers' own, to be compared with
    return opened


def theirs(engine, prompts, **settings):
    """``generate`` of transformers on a left-padded batch; ids after the prompt, without padding.

    It does not know that the last rows of the embedding are no tokens, so it is told.
    """
    module = engine.module
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        output = module.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            pad_token_id=0,
            suppress_tokens=list(range(engine._tokens.size, module.config.vocab_size)),
            **settings,
        )[:, width:].tolist()
    return [tuple(row[: row.index(2) + 1] if 2 in row else row) for row in output]


def generate(engine, prompts, **sampling):
    asked = {str(i): Generate(Prompt(p), Sampling(**sampling)) for i, p in enumerate(prompts)}
    prepared = engine.prepare(list(asked), list(asked.values()))
    answers = ask(engine, asked)
    return [p.prompt for p in prepared], [answers[name] for name in asked]


def test_greedy_text_is_that_of_generate_in_a_padded_batch(engine):
    ids, answers = generate(engine, PROMPTS, max_tokens=60)
    assert [answer.token_ids for answer in answers] == theirs(engine, ids, max_new_tokens=60)
    assert [answer.prompt_tokens for answer in answers] == [len(p) for p in ids]


def test_greedy_text_is_that_of_generate_behind_a_shared_prefix(engine):
    prompts = [HEADER + f"题目：{'公园' * (i % 4)}{i}是" for i in range(12)]
    ids, answers = generate(engine, prompts, max_tokens=30)
    assert len({p[:_LEAST_SHARED] for p in ids}) == 1
    alone = [theirs(engine, [p], max_new_tokens=30)[0] for p in ids]
    assert [answer.token_ids for answer in answers] == alone


def test_rows_that_end_early_leave_the_batch_as_it_was(engine):
    """Every answer with a limit of its own, in one batch of prompts of many lengths."""
    limits = [7, 1, 30, 12, 30, 2, 19, 25]
    asked = {
        str(at): Generate(Prompt(PROMPTS[at % 5] + "天" * at), Sampling(max_tokens=limit))
        for at, limit in enumerate(limits)
    }
    answers = ask(engine, asked)
    for prepared in engine.prepare(list(asked), list(asked.values())):
        limit = prepared.request.sampling.max_tokens
        alone = theirs(engine, [prepared.prompt], max_new_tokens=limit)[0]
        assert answers[prepared.name].token_ids == alone


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_repetition_penalty_is_that_of_generate(engine, prompt):
    ids, [answer] = generate(engine, [prompt], max_tokens=40, repetition_penalty=1.5)
    assert [answer.token_ids] == theirs(engine, ids, max_new_tokens=40, repetition_penalty=1.5)


def test_the_end_of_sequence_ends_it(engine, checkpoint_path, tmp_path):
    """A token that the model does produce is declared an end, in each of the places for it."""
    _, [free] = generate(engine, ["今天"], max_tokens=20)
    end = free.token_ids[7]
    length = free.token_ids.index(end) + 1
    for place in ("generation_config.json", "config.json"):
        for declared in (end, [2, end]):
            folder = tmp_path / f"{place}-{isinstance(declared, list)}"
            shutil.copytree(checkpoint_path, folder)
            content = json.loads((folder / place).read_text())
            (folder / place).write_text(json.dumps(content | {"eos_token_id": declared}))
            ended = TransformersEngine(open_checkpoint(str(folder)))
            _, [answer] = generate(ended, ["今天"], max_tokens=20)
            assert answer.finish_reason == "stop"
            assert answer.token_ids == free.token_ids[:length]
            assert free.text.startswith(answer.text)
            assert len(answer.text) < len(free.text)


@given(start=st.integers(0, 60), length=st.integers(1, 6))
def test_any_piece_of_the_text_can_stop_it(engine, start, length):
    """Also pieces that begin or end within a token, and in the very first one."""
    _, [free] = generate(engine, ["今天"], max_tokens=40)
    stop = free.text[start : start + length]
    if not stop or "\ufffd" in stop:
        return
    _, [answer] = generate(engine, ["今天"], max_tokens=40, stop=("never", stop))
    assert answer.finish_reason == "stop"
    assert answer.text == free.text[: free.text.index(stop)]
    assert free.token_ids[: len(answer.token_ids)] == answer.token_ids
    before = engine._tokens.text_after((), answer.token_ids[:-1])
    assert stop not in before  # it ended with the token that completed the stop string


def test_a_stop_string_after_a_broken_character_is_seen(engine):
    """Half a character, then a line end: the decoder must not swallow the latter."""
    tokens = engine._tokens
    half, line, a = (
        next(i for i, byte in tokens._byte_of.items() if byte == value) for value in (0xE4, 10, 65)
    )
    prompt = tokens.encode(["今天"])[0]
    assert tokens.text_after(prompt, [half, line, a]) == "\ufffd\nA"
    assert tokens.text_after([*prompt, line], [half]) == "\ufffd"
    whole = [i for b in "你".encode() for i, byte in tokens._byte_of.items() if byte == b]
    assert tokens.text_after(prompt, [half, *whole, half, line]) == "\ufffd你\ufffd\n"


def test_the_limit_is_what_fits(engine):
    """Context 256: a prompt of 250 leaves six tokens, one of 256 none."""
    base = len(engine.prepare(["x"], [Generate(Prompt("气"))])[0].prompt) - 1
    for room in (6, 1):
        ids, [answer] = generate(engine, ["气" * (256 - base - room)], max_tokens=50)
        assert len(ids[0]) == 256 - room
        assert answer.finish_reason == "length"
        assert len(answer.token_ids) == room
    _, [failure] = generate(engine, ["气" * (256 - base)], max_tokens=50)
    assert failure.code == "prompt_too_long"
    assert "256 tokens of prompt" in failure.message


def test_left_truncation_leaves_room_for_the_answer(engine):
    request = Generate(Prompt("气" * 400 + "天", truncate="left"), Sampling(max_tokens=56))
    [prepared] = engine.prepare(["x"], [request])
    whole = engine._tokens.with_lead(engine._tokens.encode([request.prompt.full])[0])
    assert prepared.prompt == whole[-200:]
    assert prepared.truncated == len(whole) - 200
    assert len(ask(engine, {"x": request})["x"].token_ids) <= 56


SETTINGS = st.builds(
    Sampling,
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 60),
    top_p=st.floats(0.01, 1),
)


@given(SETTINGS, st.integers(0, 1000))
def test_probabilities_are_those_of_the_logits_processors(sampling, seed):
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(50, generator=torch.Generator().manual_seed(seed)).double() * 3
    expected = TemperatureLogitsWarper(sampling.temperature)(None, logits[None])
    if sampling.top_k:
        expected = TopKLogitsWarper(sampling.top_k)(None, expected)
    expected = TopPLogitsWarper(sampling.top_p)(None, expected).softmax(-1)[0]
    ours = probabilities(logits, sampling)
    # A token that lies exactly on the border of top-p may fall on either side of it by rounding.
    assert torch.allclose(ours, expected, atol=1e-9) or bool(
        ((ours > 0) != (expected > 0)).sum() == 1
    )


@given(st.floats(0.5, 3), st.integers(0, 100))
def test_the_penalty_is_that_of_the_logits_processor(penalty, seed):
    from transformers import RepetitionPenaltyLogitsProcessor

    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(50, generator=generator)
    ids = torch.randint(50, (10,), generator=generator)
    seen = torch.zeros(50, dtype=torch.bool)
    seen[ids] = True
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids[None], logits[None])[0]
    assert torch.allclose(penalise(logits, seen, penalty), expected)


def test_draws_follow_the_distribution():
    weights = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.15, 0.05, 0.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    counts = Counter(draw(weights, generator) for _ in range(4000))
    assert set(counts) == {1, 3, 4, 5}
    observed, expected = zip(
        *((counts[i], 4000 * float(weights[i])) for i in (1, 3, 4, 5)), strict=True
    )
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_a_seed_belongs_to_its_request(engine):
    def sampled(seeds):
        requests = [
            Generate(Prompt("今天" * (1 + i % 3)), Sampling(30, temperature=1.0, seed=seed))
            for i, seed in enumerate(seeds)
        ]
        answers = ask(engine, {str(i): request for i, request in enumerate(requests)})
        return [answers[str(i)].token_ids for i in range(len(requests))]

    seeds = list(range(12))
    together = sampled(seeds)
    assert together == sampled(seeds)
    assert len(set(together)) == len(together)
    asked = Generate(Prompt("今天"), Sampling(30, temperature=1.0, seed=9))
    assert ask(engine, {"x": asked})["x"].token_ids == together[9]


@pytest.mark.parametrize("temperature", [1e-300, 1e-9])
def test_hardly_any_temperature_is_greedy(engine, temperature):
    _, [cold] = generate(engine, ["今天"], max_tokens=10, temperature=temperature)
    _, [greedy] = generate(engine, ["今天"], max_tokens=10)
    assert cold == greedy


def test_ids_beyond_the_tokenizer_are_never_generated(engine, checkpoint_path):
    from safetensors.torch import load_file

    head = load_file(checkpoint_path / "model.safetensors")["lm_head.weight"]
    assert len(head) > engine._tokens.size  # there are rows to fall into
    _, answers = generate(engine, ["今天"] * 5, max_tokens=100, temperature=5.0)
    assert max(max(answer.token_ids) for answer in answers) < engine._tokens.size


def test_a_first_space_belongs_to_the_answer(engine):
    tokens = engine._tokens
    for prompt, answer in (("The quick", " brown fox"), ("答案是：", "中国"), ("Bot:", "  5\n")):
        ids = tokens.with_lead(tokens.encode([prompt])[0])
        whole = tokens.with_lead(tokens.encode([prompt + answer])[0])
        assert whole[: len(ids)] == ids
        assert tokens.text_after(ids, whole[len(ids) :]) == answer
