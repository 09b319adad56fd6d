"""The transformers engine behind a chat template: the contract, and which prompts it applies to."""

from __future__ import annotations

import pytest
from contract import EngineContract

from evalsuite.chat import BUILTIN
from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines.options import ModelOptions
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.request import Choose, Generate, Prompt


@pytest.fixture(scope="module")
def engine(checkpoint_path):
    checkpoint = open_checkpoint(str(checkpoint_path))
    return TransformersEngine(
        checkpoint, ModelOptions(template=BUILTIN["llama2-chinese"], batch_tokens=64)
    )


class TestContract(EngineContract):
    def impossible(self):
        return {"long": Generate(Prompt("气" * 300)), "longer": Choose(Prompt("气" * 300), ("A",))}


def prompt_ids(engine, prompt):
    return engine.prepare(["x"], [Generate(prompt)])[0].prompt


def test_the_template_is_left_out_of_a_plain_prompt_unless_forced(engine, checkpoint_path):
    checkpoint = open_checkpoint(str(checkpoint_path))
    bare = TransformersEngine(checkpoint)
    forced = TransformersEngine(
        checkpoint, ModelOptions(template=BUILTIN["llama2-chinese"], force_template=True)
    )
    chat, plain = Prompt("今天"), Prompt("今天", plain=True)
    assert prompt_ids(engine, plain) == prompt_ids(bare, plain)
    assert prompt_ids(engine, chat) != prompt_ids(bare, chat)
    assert prompt_ids(forced, plain) == prompt_ids(engine, chat)
    assert engine.template_name == "llama2-chinese"


@pytest.mark.parametrize("name", [*BUILTIN, None])
@pytest.mark.parametrize("prompt", ["今天", "", "<s>今天"])
def test_a_prompt_begins_with_exactly_one_bos(checkpoint_path, name, prompt):
    template = BUILTIN[name] if name else None
    opened = TransformersEngine(
        open_checkpoint(str(checkpoint_path)), ModelOptions(template=template)
    )
    requests = [Generate(Prompt(prompt)), Choose(Prompt(prompt), ("A", "天气"))]
    for prepared in opened.prepare(["x", "y"], requests):
        assert prepared.prompt[0] == 1
        assert prepared.prompt[1:2] != (1,)
        assert prepared.prompt[-1] != 2  # no EOS from the tokenizer
        assert all(2 not in tail and 1 not in tail for tail in prepared.tails)


def test_the_prompt_is_the_template_tokenised(engine):
    prepared = engine.prepare(["x"], [Generate(Prompt("今天", prefix="我们"))])[0]
    text = engine._tokens._tokenizer.decode(list(prepared.prompt))
    assert text == "<s>Human: 我们今天\n</s><s>Assistant: "
