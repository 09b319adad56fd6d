"""The openai engine against a real vLLM server on this machine: the contract, and the same numbers
as the embedded engine's.

Run by ``make test-vllm``; elsewhere vLLM is missing and these tests are skipped.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path

import pytest
from contract import ALL, CHOOSE, GENERATE, EngineContract, ask, assert_same
from free_port import free_port
from real_server import serving

from evalsuite.chat import BUILTIN
from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines._serving import ServerOptions, probe_server, template_name
from evalsuite.engines.openai import OpenAIEngine
from evalsuite.engines.options import ModelOptions
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.errors import BadOption, UnknownName
from evalsuite.request import Choose, Chosen, Failure, Generate, Prompt, Sampling, Score
from evalsuite.served import NOISE, distance

CHECKPOINT = Path(__file__).parents[2] / "train" / "checkpoints" / "tiny-sft"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="vLLM is not installed (make test-vllm)"
    ),
]


@contextlib.contextmanager
def vllm(checkpoint, log, *arguments):
    """A server on a free port; gives its address. Ended as a group, so that no engine is left."""
    port = free_port()
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint),
        "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), *arguments,
    ]  # fmt: skip
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with serving(command, port, log, **environment) as address:
        yield address


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """With a chat template of the server's own, as a chat model has it."""
    folder = tmp_path_factory.mktemp("vllm")
    template = folder / "ziya.jinja"
    template.write_text(BUILTIN["ziya"].source, encoding="utf-8")
    with vllm(
        CHECKPOINT, folder / "log", "--dtype", "float32", "--chat-template", str(template)
    ) as address:
        yield address


def opened(url, template, **changes):
    options = ServerOptions(base_url=url, **changes)
    abilities = probe_server("tiny", options)
    name = template_name(abilities, template)
    return OpenAIEngine("tiny", options, abilities, template=name, fingerprint="f" * 64)


@pytest.fixture(scope="module")
def engine(url):
    with contextlib.closing(opened(url, "none")) as engine:
        yield engine


@pytest.fixture(scope="module")
def embedded():
    return TransformersEngine(open_checkpoint(str(CHECKPOINT)))


class TestContract(EngineContract):
    def impossible(self):
        return {
            "long": Generate(Prompt("气" * 3000)),
            "longer": Choose(Prompt("气" * 3000), ("A",)),
            "empty": Choose(Prompt("x"), ("A", "")),
            "nothing": Score(Prompt("x"), ""),
        }


class TestContractInChat(EngineContract):
    """Through the chat endpoint: letters by the likeliest first tokens, no given texts."""

    @pytest.fixture
    def engine(self, url):
        with contextlib.closing(opened(url, "server")) as engine:
            yield engine

    def requests(self):
        letters = {n: r for n, r in CHOOSE.items() if n in ("choose/letters", "choose/shots")}
        return letters | GENERATE

    def impossible(self):
        return {
            "long": Generate(Prompt("气" * 3000)),
            "words": Choose(Prompt("x"), ("yes", "no")),
            "score": Score(Prompt("x"), "y"),
        }

    def test_the_most_likely_choice_is_picked(self, engine):
        for name, answer in ask(engine, self.requests()).items():
            if isinstance(answer, Chosen) and answer.logprobs:
                assert answer.picked == max(range(4), key=answer.logprobs.__getitem__), name

    def test_a_failure_is_data(self, engine):
        answers = ask(engine, self.impossible())
        assert {n: a.code for n, a in answers.items()} == {
            "long": "prompt_too_long", "words": "no_logprobs", "score": "no_logprobs",
        }  # fmt: skip


def test_the_probe_finds_all_that_vllm_can_do(url):
    found = probe_server("tiny", ServerOptions(base_url=url))
    assert found.software == "vllm"
    assert found.completions
    assert found.chat
    assert (found.top, found.chat_top, found.context) == (20, 20, 1024)
    assert found.echo
    assert found.token_ids
    assert found.tokenize
    with pytest.raises(UnknownName, match="did you mean 'tiny'"):
        probe_server("tinny", ServerOptions(base_url=url))


def test_log_likelihoods_are_the_embedded_engines(engine, embedded):
    asked = {name: request for name, request in ALL.items() if name not in GENERATE}
    assert_same(ask(engine, asked), ask(embedded, asked))


def test_a_tokenizer_on_this_machine_gives_the_same_requests(url, engine, checkpoint_path):
    names, requests = list(ALL), list(ALL.values())
    with contextlib.closing(opened(url, "none", tokenizer=str(CHECKPOINT))) as local:
        ours = local.prepare(names, requests)
        assert [(p.key, p.prompt, p.tails) for p in ours] == [
            (p.key, p.prompt, p.tails) for p in engine.prepare(names, requests)
        ]
        assert "<s>" in local.shown_prompt(ours[0])
    with pytest.raises(BadOption, match="not the served model's"):
        opened(url, "none", tokenizer=str(checkpoint_path))


def test_greedy_texts_are_the_embedded_engines(engine, embedded):
    prompts = [
        "今天天气",
        "The quick brown",
        "翻译成英文：我喜欢喝茶。",
        "User: 你好\nBot: ",
        "3 + 4 = ",
    ]
    asked = {p: Generate(Prompt(p), Sampling(max_tokens=24)) for p in prompts}
    ours, theirs = ask(engine, asked), ask(embedded, asked)
    for prompt in prompts:
        one, other = ours[prompt], theirs[prompt]
        assert one.token_ids == other.token_ids, prompt
        if not other.text.endswith("\ufffd"):  # a character cut in two: vLLM leaves its half out
            assert one == other


def test_prompts_are_cut_on_the_left_as_the_embedded_engine_cuts_them(engine, embedded):
    """To two tokens fewer: a scored text is sent as a whole, and the server adds one of its own."""
    prompt = Prompt("今天天气很好。" * 400, truncate="left")
    requests = [Choose(prompt, ("A", "中国")), Generate(prompt, Sampling(max_tokens=10))]
    for request in requests:
        [ours], [theirs] = (e.prepare(["x"], [request]) for e in (engine, embedded))
        assert ours.prompt == theirs.prompt[2:]
        [(_, answer)] = engine.answer([ours])
        assert not isinstance(answer, Failure)


def test_a_chat_is_the_servers_template(url, embedded):
    spoken = {"x": Generate(Prompt("你好", system="请用中文回答。"), Sampling(max_tokens=20))}
    template = BUILTIN["ziya"]
    here = TransformersEngine(open_checkpoint(str(CHECKPOINT)), ModelOptions(template=template))
    [prepared] = here.prepare(["x"], [spoken["x"]])
    with contextlib.closing(opened(url, "auto")) as engine:
        answer = ask(engine, spoken)["x"]
        lead = len(embedded._tokens.lead)  # in a chat, vLLM leaves BOS to the template
        assert answer.prompt_tokens == len(prepared.prompt) - lead
        plain = {"x": Choose(Prompt("答案是：", plain=True), ("A", "B"))}
        assert_same(ask(engine, plain), ask(embedded, plain))


def test_a_model_is_known_again_under_load(url, engine):
    """What the weights predict is what tells them from others of the same name."""
    calm = probe_server("tiny", ServerOptions(base_url=url)).likely
    names = [f"{i}" for i in range(200)]
    load = [Generate(Prompt(f"{n} 今天"), Sampling(max_tokens=60)) for n in names]
    answers = engine.answer(engine.prepare(names, load))
    next(answers)
    busy = probe_server("tiny", ServerOptions(base_url=url)).likely
    assert sum(1 for _ in answers) > 0, "the load was over before the probe"
    assert distance(calm, busy) < NOISE / 10
