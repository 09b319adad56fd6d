"""The vllm engine on real vLLM: the contract, the same answers as transformers, and nothing left behind."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import time
from pathlib import Path

import pytest
from checkpoint_factory import write_tokenizer, write_weights
from contract import ALL, CHOOSE, QUESTION, EngineContract, ask, assert_same

from evalsuite.bench.workload import answered, prompts
from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines._vllm_installation import installed
from evalsuite.engines._vllm_spare import Spare
from evalsuite.engines.opening import open_engine
from evalsuite.engines.options import ModelOptions
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.errors import BadCheckpoint, BadOption, EngineFailed, EngineUnavailable
from evalsuite.measurements import Workload
from evalsuite.request import Choose, Failure, Generate, Prompt, Sampling, Score

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="vLLM is not here: make test-vllm"
    ),
    pytest.mark.timeout(300),
]
LADDER = Path(__file__).parent.parent.parent / "train" / "checkpoints"
UNSEEDED = {name: asked for name, asked in ALL.items() if name != "generate/sampled"}
"""Requests whose answers are the same in every engine; a draw is not."""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """As the other tests' checkpoint, with heads of 32, the least that vLLM has kernels for."""
    folder = tmp_path_factory.mktemp("vllm") / "tiny"
    write_tokenizer(folder)
    write_weights(folder, seed=1, hidden_size=128)
    return folder


@pytest.fixture(scope="module")
def opened():
    """Opens engines, one at a time, in the process that the last one left behind."""
    spare = Spare(1000)
    current = {}

    def start(folder, **options):
        wanted = (folder, *options.items())
        if wanted not in current or current[wanted]._worker is None:
            for engine in current.values():
                engine.close()
            current.clear()
            checkpoint = open_checkpoint(str(folder))
            current[wanted] = open_engine("vllm", checkpoint, ModelOptions(**options), spare=spare)
        return current[wanted]

    yield start
    for engine in current.values():
        engine.close()
    spare.close()


@pytest.fixture
def engine(opened, path):
    return opened(path)


@pytest.fixture(scope="module")
def plain(path):
    return TransformersEngine(open_checkpoint(str(path)))


class TestContract(EngineContract):
    """As every engine keeps it."""


def test_answers_are_those_of_transformers(engine, plain):
    assert_same(ask(engine, UNSEEDED), ask(plain, UNSEEDED))


LONG = "今天天气很好，我们去公园散步。" * 3
TAILS = {
    "alike": Choose(Prompt(QUESTION), (LONG + "中国", LONG + "印度", LONG, LONG[:20], "中")),
    "nested": Choose(Prompt(QUESTION + LONG[:9]), (LONG[9:], LONG[9:] + "A", "B")),
    "cut": Choose(Prompt(QUESTION * 9, truncate="left"), ("A", LONG, LONG + QUESTION)),
    "whole": Score(Prompt(""), QUESTION + LONG),
    "full": Score(Prompt("今"), "天" * 200),
    "many": Choose(Prompt("今天"), tuple(map(str, range(150)))),
} | {f"at {n}": Choose(Prompt("1" * n), ("2345", "3" * 40)) for n in range(24, 40)}


def test_long_tails_are_those_of_transformers(engine, plain):
    """Contexts that end in, before and at blocks of the cache, and tails that share whole blocks."""
    expected = ask(plain, TAILS)
    assert_same(ask(engine, TAILS), expected)
    for name, request in TAILS.items():
        assert_same(ask(engine, {name: request}), {name: expected[name]})


EDGES = {
    "to the end of the context": Generate(Prompt("1" * 250), Sampling(max_tokens=100)),
    "one token": Generate(Prompt("1" * 253), Sampling(max_tokens=9)),
    "cut": Generate(Prompt("1" * 300, truncate="left"), Sampling(max_tokens=9)),
    "seed": Generate(Prompt("x"), Sampling(max_tokens=4, seed=-1, repetition_penalty=0.7)),
    "stop in the middle": Generate(Prompt("User: 你好\nBot:"), Sampling(stop=("o", "天天"))),
}


def test_edges_of_generation_are_those_of_transformers(engine, plain):
    assert_same(ask(engine, EDGES), ask(plain, EDGES))


def test_padded_rows_are_never_generated(engine):
    hot = {
        str(seed): Generate(Prompt("今天"), Sampling(max_tokens=60, temperature=2.0, seed=seed))
        for seed in range(40)
    }
    ids = {i for answer in ask(engine, hot).values() for i in answer.token_ids}
    assert len(ids) > 300
    assert max(ids) < engine._tokens.size < 448


def test_what_vllm_does_not_take_is_a_failure_of_its_own(engine):
    asked = {"hot": Generate(Prompt("今天"), Sampling(temperature=50.0))} | CHOOSE
    answers = ask(engine, asked)
    assert isinstance(answers["hot"], Failure)
    assert "temperature" in answers["hot"].message
    assert_same({name: answers[name] for name in CHOOSE}, ask(engine, CHOOSE))
    time.sleep(0.2)
    before = computing(engine)
    time.sleep(1)
    assert computing(engine) - before < 0.5, "it computes although nothing is asked"


def computing(engine):
    """Seconds of processor time that vLLM's process has used."""
    fields = Path(f"/proc/{engine._worker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_seed_gives_its_text_again_and_another_seed_another(engine):
    def texts(seed):
        asked = {
            f"{n}": Generate(
                Prompt("今天"), Sampling(max_tokens=20, temperature=1.0, seed=seed + n)
            )
            for n in range(3)
        }
        answers = ask(engine, asked)
        return [answers[name].token_ids for name in asked]

    assert texts(1) == texts(1)
    assert len(set(texts(1))) == 3
    assert texts(2) == [*texts(1)[1:], texts(4)[0]]


def test_draws_follow_the_probabilities(engine, plain):
    """The first token of 600 draws, against exact probabilities: chi-square, 1 in 10,000."""
    from scipy.stats import chisquare

    letters = ("0", "1", "2", "3", "4")
    exact = ask(plain, {"x": Choose(Prompt("今天"), letters)})["x"]
    ids = [
        prepared.tails[0][0]
        for prepared in plain.prepare(
            list(letters), [Choose(Prompt("今天"), (letter,)) for letter in letters]
        )
    ]
    asked = {
        str(n): Generate(Prompt("今天"), Sampling(max_tokens=1, temperature=1.0, seed=n))
        for n in range(600)
    }
    drawn = [answer.token_ids[0] for answer in ask(engine, asked).values()]
    expected = [600 * math.exp(logprob) for logprob in exact.logprobs]
    seen = [drawn.count(i) for i in ids]
    rest = (600 - sum(seen), 600 - sum(expected))
    assert chisquare([*seen, rest[0]], [*expected, rest[1]]).pvalue > 1e-4


def test_it_describes_the_checkpoint(engine, plain):
    assert engine.context == plain.context
    assert engine.parameters == plain.parameters
    assert engine.description["dtype"] == "float32"
    assert "vllm" in engine.description["version"]


def test_answers_come_as_they_are_done(engine):
    """The short ones first, although the long ones are asked first."""
    asked = {"long": Generate(Prompt("今天"), Sampling(max_tokens=150))}
    asked |= {f"{n}": Generate(Prompt(f"{n}"), Sampling(max_tokens=2)) for n in range(5)}
    order = [i for i, _ in engine.answer(engine.prepare(list(asked), list(asked.values())))]
    assert order[-1] == 0


def test_whoever_stops_listening_may_ask_again(engine, plain):
    answers = engine.answer(engine.prepare(list(ALL), list(ALL.values())))
    next(answers)
    answers.close()
    assert_same(ask(engine, UNSEEDED), ask(plain, UNSEEDED))


def test_a_closed_engine_says_so(opened, path):
    closed = opened(path)
    closed.close()
    closed.close()
    with pytest.raises(EngineFailed, match="closed"):
        ask(closed, CHOOSE)


def test_half_precision_is_close(opened, path, plain):
    half = opened(path, dtype="bfloat16")
    assert half.description["dtype"] == "bfloat16"
    expected = ask(plain, CHOOSE)
    for name, answer in ask(half, CHOOSE).items():
        assert answer.logprobs == pytest.approx(expected[name].logprobs, rel=0.1, abs=0.5)


def test_the_next_checkpoints_in_the_same_process(opened, path):
    """Other weights in the process of the last ones: nothing of those is left."""
    first = opened(path)
    ask(first, CHOOSE)
    process = first._worker.pid
    asked = {
        f"{n}{kind}": request
        for n, line in enumerate(("今天天气", "请用一句话介绍北京。", "1 + 2 =", "My name is"))
        for kind, request in {
            "choose": Choose(Prompt(line), ("好", "不好，我们回家吧", " a cat")),
            "generate": Generate(Prompt(line), Sampling(max_tokens=40)),
            "score": Score(Prompt(""), line),
        }.items()
    }
    answers = []
    for rung in ("tiny-sft", "tiny-ppo"):
        engine = opened(LADDER / rung)
        assert engine._worker.pid == process
        other = TransformersEngine(open_checkpoint(str(LADDER / rung)))
        answers.append(ask(engine, asked))
        assert_same(answers[-1], ask(other, asked))
    assert answers[0] != answers[1]


def test_weights_that_are_not_numbers_are_failures(opened, path, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(path, tmp_path / "broken")
    file = tmp_path / "broken" / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"].fill_(math.nan)
    save_file(weights, file, {"format": "pt"})
    for name, answer in ask(opened(tmp_path / "broken"), ALL).items():
        assert isinstance(answer, Failure), name
        assert answer.code == "engine_failed"
        assert "not numbers" in answer.message


def test_weights_that_do_not_fit_are_refused(path, tmp_path):
    shutil.copytree(path, tmp_path / "wrong")
    config = json.loads((path / "config.json").read_text())
    (tmp_path / "wrong" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    engine = open_engine("vllm", open_checkpoint(str(tmp_path / "wrong")))
    with pytest.raises(BadCheckpoint, match="does not load") as caught:
        ask(engine, CHOOSE)
    log = Path(engine_log(caught.value))
    assert "Traceback" in log.read_text()
    shutil.rmtree(log.parent)
    engine.close()


def _saturates() -> bool:
    """Whether int8 products here go through AVX2's 16-bit sums, which overflow: no VNNI, no AMX."""
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text().split() if cpu.is_file() else []
    return "avx2" in flags and not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(flags)


@pytest.mark.skipif(_saturates(), reason="GPU or VNNI: int8 products of AVX2 alone saturate")
def test_a_quantised_checkpoint_is_run_as_it_is(opened, path, tmp_path, plain):
    """Weights in eight bits a row and activations in eight bits a token, in compressed-tensors' format."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(path, tmp_path / "int8")
    file = tmp_path / "int8" / "model.safetensors"
    weights = {}
    for name, weight in load_file(file).items():
        if "proj" not in name:
            weights[name] = weight
            continue
        scale = weight.abs().amax(1, keepdim=True) / 127
        weights[name] = (weight / scale).round().to(torch.int8)
        weights[f"{name}_scale"] = scale
    save_file(weights, file, {"format": "pt"})
    integers = {"num_bits": 8, "type": "int", "symmetric": True}
    scheme = {
        "targets": ["Linear"],
        "weights": integers | {"strategy": "channel", "dynamic": False},
        "input_activations": integers | {"strategy": "token", "dynamic": True},
    }
    config = json.loads((path / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": scheme},
    }
    (tmp_path / "int8" / "config.json").write_text(json.dumps(config))
    engine = opened(tmp_path / "int8")
    assert engine.description["quantization"] == "compressed-tensors"
    expected = ask(plain, CHOOSE)
    for name, answer in ask(engine, CHOOSE).items():
        assert answer.logprobs != pytest.approx(expected[name].logprobs, abs=1e-4)
        assert answer.logprobs == pytest.approx(expected[name].logprobs, rel=0.05, abs=0.7)


@pytest.mark.parametrize("options", [{"blok_size": "32"}, {"kv_cache_dtype": "int7"}], ids=str)
def test_an_option_that_vllm_does_not_have(path, options):
    engine = open_engine("vllm", open_checkpoint(str(path)), ModelOptions(engine_options=options))
    with pytest.raises(BadOption, match=next(iter(options)).removeprefix("kv_")) as caught:
        ask(engine, CHOOSE)
    shutil.rmtree(Path(engine_log(caught.value)).parent, ignore_errors=True)
    engine.close()


def engine_log(error):
    """The file that an error names."""
    return str(error.hint).rpartition(" ")[2]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"dtype": "float23"}, BadOption),
        ({"dtype": "int8"}, BadOption),
        ({"device": "gpu"}, BadOption),
        ({"device": "cpu:1"}, BadOption),
        ({"batch_tokens": 0}, BadOption),
        ({"engine_options": {"model": "x"}}, BadOption),
        ({"engine_options": {"enable_prefix_caching": "false"}}, BadOption),
        ({"engine_options": {"a b": "x"}}, BadOption),
        ({"engine_options": {"batch_invariant": "2"}}, BadOption),
        ({"engine_options": {"max_model_len": "many"}}, BadOption),
    ],
    ids=str,
)
def test_senseless_options_are_refused(path, options, fault):
    with pytest.raises(fault):
        open_engine("vllm", open_checkpoint(str(path)), ModelOptions(**options))


def test_a_device_that_it_was_not_built_for(path):
    other = "cuda" if installed()[1] else "cpu"
    with pytest.raises(EngineUnavailable, match="built for"):
        open_engine("vllm", open_checkpoint(str(path)), ModelOptions(device=other))


def test_where_speed_is_measured_answers_go_on_past_every_end(opened, path, tmp_path):
    """Half the vocabulary ends an answer, as the checkpoint says; ``ignore_ends`` leaves that aside."""
    folder = tmp_path / "ending"
    shutil.copytree(path, folder)
    settings = {"eos_token_id": [2, *range(4, 420, 2)]}
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    engine = opened(folder)
    mixed = Workload(name="mixed", requests=4, prompt_tokens=20, answer_tokens=24)
    stopped = answered(engine, prompts(engine, mixed, 1))
    assert any(len(answer.token_ids) < 24 for answer in stopped)
    engine.ignore_ends = True
    found = answered(engine, prompts(engine, mixed, 1))
    assert [len(answer.token_ids) for answer in found] == [24] * 4
