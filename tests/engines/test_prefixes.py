"""Beginnings that prompts share are computed once, at every depth, and change no answer."""

from __future__ import annotations

import pytest
from contract import ask, assert_same

from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.request import Choose, Generate, Prompt, Sampling

HEAD = "请回答下面的问题，只写一个字母。" * 6
SUBJECTS = [f"{name}的题目，例如：{example * 60}\n" for name, example in ("天公", "气园", "好步")]
QUESTIONS = [f"题目：{number} 是不是偶数？\nA. 是\nB. 否\n答案是：" for number in range(4)]


@pytest.fixture(scope="module")
def engines(roomy_checkpoint_path):
    checkpoint = open_checkpoint(str(roomy_checkpoint_path))
    return TransformersEngine(checkpoint), TransformersEngine(checkpoint, native=False)


def asked(kind):
    """Every question under every subject, all under one head: a tree of three levels."""
    found = {}
    for subject in SUBJECTS:
        for number, question in enumerate(QUESTIONS * 2):
            prompt = Prompt(f"{number // 4}{question}", prefix=HEAD + subject)
            found[f"{subject[:2]}/{number}"] = kind(prompt)
    return found


def needed(engine, requests):
    """Tokens of the trie of what stands before the questions, and of the questions themselves."""
    prepared = engine.prepare(list(requests), list(requests.values()))
    ends = [
        len(engine.prepare(["x"], [Choose(Prompt(r.prompt.prefix), ("A",))])[0].prompt) - 1
        for r in requests.values()
    ]
    nodes = {
        p.prompt[:end] for p, last in zip(prepared, ends, strict=True) for end in range(1, last + 1)
    }
    return len(nodes) + sum(len(p.prompt) - last for p, last in zip(prepared, ends, strict=True))


@pytest.mark.parametrize(
    "kind",
    [
        lambda prompt: Choose(prompt, ("A", "B")),
        lambda prompt: Generate(prompt, Sampling(max_tokens=2)),
    ],
    ids=["choose", "generate"],
)
def test_every_beginning_is_computed_once(engines, kind):
    native, plain = engines
    requests = asked(kind)
    native.ready()
    before = native.work.prefill_tokens
    answers = ask(native, requests)
    assert_same(answers, ask(plain, requests))
    computed = native.work.prefill_tokens - before
    assert computed <= needed(native, requests)
    assert computed * 5 < sum(answer.prompt_tokens for answer in answers.values())
