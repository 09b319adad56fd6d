"""Log-likelihoods against a plain forward pass a row, and against lm-evaluation-harness."""

from __future__ import annotations

import warnings

import pytest
import torch
from contract import ALL, CHOOSE, HEADER, QUESTION, SCORE, ask, refuse_retries

from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines._batching import Budget
from evalsuite.engines._model import Model
from evalsuite.engines._native import FAMILY, NativeModel, is_native
from evalsuite.engines._scoring import score
from evalsuite.engines.base import Prepared
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.request import Choose, Chosen, Prompt, Score


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


def plain_logprob(module, prompt, tail):
    """The definition: one unpadded forward pass, log-softmax over all columns, a sum."""
    ids = torch.tensor([[*prompt, *tail]])
    with torch.no_grad():
        logprobs = module(input_ids=ids[:, :-1]).logits[0].double().log_softmax(-1)
    predicted = logprobs[len(prompt) - 1 :]
    greedy = predicted.argmax(-1).tolist() == list(tail)
    return sum(predicted[at, token].item() for at, token in enumerate(tail)), greedy


def shots(number):
    """Few-shot questions with a long common beginning, and some without."""
    asked = {}
    for at in range(number):
        prefix = HEADER if at % 3 else ""
        prompt = Prompt(f"题目：{at}公园{'散步' * (at % 5)}？\n答案是：", prefix=prefix)
        choices = ("A", "B", "C", "D") if at % 2 else ("中国", "狗", "天气很好", "the lazy dog")
        asked[f"{at}"] = Choose(prompt, choices)
    return asked


@pytest.mark.parametrize("asked", [CHOOSE | SCORE, shots(40)], ids=["contract", "shots"])
def test_log_likelihoods_are_those_of_plain_forward_passes(engine, asked):
    answers = ask(engine, asked)
    module = engine.module
    for prepared in engine.prepare(list(asked), list(asked.values())):
        answer = answers[prepared.name]
        expected = [plain_logprob(module, prepared.prompt, tail) for tail in prepared.tails]
        if isinstance(answer, Chosen):
            assert answer.logprobs == pytest.approx([e[0] for e in expected], rel=1e-6, abs=1e-5)
            assert answer.token_counts == tuple(map(len, prepared.tails))
        else:
            assert answer.logprob == pytest.approx(expected[0][0], rel=1e-6, abs=1e-5)
            assert answer.greedy is expected[0][1]
        assert answer.prompt_tokens == len(prepared.prompt)


def test_a_greedy_continuation_is_known_as_such(engine):
    prompt = engine.prepare(["x"], [Score(Prompt("今天"), "x")])[0].prompt
    module, ids = engine.module, list(prompt)
    for _ in range(5):
        with torch.no_grad():
            ids.append(int(module(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    tail = tuple(ids[len(prompt) :])
    for candidate, expected in ((tail, True), ((*tail[:-1], (tail[-1] + 1) % 400), False)):
        request = Score(Prompt("今天"), "x")
        asked = Prepared("x", request, "k", prompt=prompt, tails=(candidate,))
        [(_, answer)] = engine.answer([asked])
        assert answer.greedy is expected


def test_one_text_split_everywhere(engine):
    """Rows that are alike for longer than the prompts of some of them."""
    text = HEADER + QUESTION
    asked = {str(at): Score(Prompt(text[:at]), text[at:]) for at in range(len(text) - 1, -1, -5)}
    answers = ask(engine, asked)
    for prepared in engine.prepare(list(asked), list(asked.values())):
        [tail] = prepared.tails
        expected, _ = plain_logprob(engine.module, prepared.prompt, tail)
        assert answers[prepared.name].logprob == pytest.approx(expected, rel=1e-6, abs=1e-5)


ARCHITECTURES = {
    "llama": ("LlamaConfig", {"num_key_value_heads": 2}, True),
    "qwen2": ("Qwen2Config", {"num_key_value_heads": 2, "layer_types": None}, True),
    "qwen3": ("Qwen3Config", {"num_key_value_heads": 2, "head_dim": 16}, True),
    "mistral": ("MistralConfig", {"num_key_value_heads": 2, "sliding_window": None}, True),
    "llama (scaled rotary)": (
        "LlamaConfig",
        {
            "attention_bias": True,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 1e4,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
        True,
    ),
    "gpt_neox": ("GPTNeoXConfig", {}, True),
    "gpt2": ("GPT2Config", {"n_positions": 256}, True),
    "opt": ("OPTConfig", {"ffn_dim": 64, "word_embed_proj_dim": 32}, True),
    "gemma2 (windows, capped logits)": (
        "Gemma2Config",
        {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8},
        False,
    ),
    "mistral (windows)": ("MistralConfig", {"num_key_value_heads": 2, "sliding_window": 8}, False),
    "bloom (ALiBi)": ("BloomConfig", {}, False),
    "cohere (scaled logits)": ("CohereConfig", {"num_key_value_heads": 2}, True),
}


def tiny(name):
    """A model of that architecture with large random weights."""
    import transformers

    config_class, special, _ = ARCHITECTURES[name]
    config = getattr(transformers, config_class)(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.3,
        **special,
    )
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_gives_its_own_numbers(name):
    """Sharing and branching only where they are exact; scaled and capped logits as they are."""
    module = tiny(name)
    model = Model(module)
    assert model.shares is ARCHITECTURES[name][2]
    generator = torch.Generator().manual_seed(0)

    def draw(length):
        return tuple(torch.randint(3, 100, (length,), generator=generator).tolist())

    header = draw(30)
    asked = []
    for at in range(12):
        prompt = (*(header if at % 4 else ()), *draw(3 + at))
        tails = tuple(draw(1 + (at * k) % 5) for k in range(4))
        request = Choose(Prompt("x"), ("",) * 4)
        asked.append((at, Prepared(str(at), request, "k", prompt=prompt, tails=tails)))
    expected = {
        at: [plain_logprob(module, prepared.prompt, tail)[0] for tail in prepared.tails]
        for at, prepared in asked
    }

    def check(each):
        answers = dict(score(each, asked, context=256, tokens=Budget(128)))
        for at, _ in asked:
            assert answers[at].logprobs == pytest.approx(expected[at], rel=1e-6, abs=1e-5)

    check(model)
    assert is_native(module) is (type(module).__name__ in FAMILY and model.shares)
    if is_native(module):
        check(NativeModel(module))


@pytest.fixture(scope="module")
def harness(checkpoint_path):
    """lm-evaluation-harness 0.4.13 on the same checkpoint."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval.models.huggingface import HFLM

        return HFLM(str(checkpoint_path), device="cpu", dtype="float32", batch_size=4)


def theirs(harness, pairs):
    from lm_eval.api.instance import Instance

    asked = [Instance("loglikelihood", {}, pair, at) for at, pair in enumerate(pairs)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return harness.loglikelihood(asked, disable_tqdm=True)


def truncating(prompt):
    return Prompt(prompt.text, prefix=prompt.prefix, truncate="left")


CONTEXTS = {
    "spaces": Choose(Prompt("The quick brown   \n "), ("fox", " dog", "狐")),
    "only spaces": Choose(Prompt("  \n"), ("fox", " dog")),
    "spelled BOS": Choose(Prompt("<s>The quick"), (" brown", "brown")),
    "BOS alone": Score(Prompt(""), "<s>The quick"),
    "full width": Choose(Prompt("答案是：\u3000"), ("中国", "A")),
    "too long": Choose(Prompt("题目" + "气候" * 200), ("A", "天气很好", "the lazy dog")),
    "just too long": Choose(Prompt("气" * 254), ("A", "天气", "天气很")),
    "wide": Choose(Prompt("气" * 100), ("天气" * 100, "A")),
    "exact": Choose(Prompt("气" * 254), ("A", "B")),
}


def test_log_likelihoods_equal_those_of_lm_eval(engine, harness):
    likelihoods = {n: r for n, r in (ALL | CONTEXTS).items() if isinstance(r, (Choose, Score))}
    del likelihoods["choose/hostile"], likelihoods["score/hostile"]  # it cannot tokenise them
    answers = ask(
        engine,
        {
            name: type(r)(
                truncating(r.prompt), r.choices if isinstance(r, Choose) else r.continuation
            )
            for name, r in likelihoods.items()
        },
    )
    pairs, ours = [], []
    for name, request in likelihoods.items():
        answer = answers[name]
        if isinstance(request, Choose):
            pairs += [(request.prompt.full, choice) for choice in request.choices]
            ours += answer.logprobs
        else:
            pairs.append((request.prompt.full, request.continuation))
            ours.append(answer.logprob)
    for pair, mine, (other, _) in zip(pairs, ours, theirs(harness, pairs), strict=True):
        assert mine == pytest.approx(other, abs=1e-4), pair


def test_greedy_flags_equal_those_of_lm_eval(engine, harness):
    prompt = engine.prepare(["x"], [Score(Prompt(QUESTION), "x")])[0].prompt
    module = engine.module
    with torch.no_grad():
        ranked = module(input_ids=torch.tensor([prompt])).logits[0, -1].argsort(descending=True)
    texts = [engine._tokens.text_after(prompt, [int(token)]) for token in ranked[:8]]
    texts = [text for text in texts if text.strip() and "\ufffd" not in text]
    answers = ask(engine, {text: Score(Prompt(QUESTION), text) for text in texts})
    expected = theirs(harness, [(QUESTION, text) for text in texts])
    assert [answers[text].greedy for text in texts] == [greedy for _, greedy in expected]
    assert {greedy for _, greedy in expected} == {True, False}
