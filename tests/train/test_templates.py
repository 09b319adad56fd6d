"""Templates in training: golden masks, and what holds for every conversation."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import pytest
from evalsuite_train.errors import BadRecipe
from evalsuite_train.templates import (
    TEMPLATES,
    Unusable,
    encode_conversation,
    encode_prompt,
    encoder,
)
from hypothesis import given
from hypothesis import strategies as st
from sft_factory import bloom_tokenizer, llama_tokenizer, talk

from evalsuite.chat import BUILTIN, render
from evalsuite.request import Prompt

GOLDEN = Path(__file__).parent / "golden"
LLAMA, BLOOM = llama_tokenizer(), bloom_tokenizer()
LOOSE = bloom_tokenizer(special=False)
"""A tokenizer whose markers are added tokens, but not declared as special."""

MEAN = [
    "</s>",
    "<s>",
    "<|End|>",
    "<|Human|>",
    "<unk>",
    "<bot>:",
    "\n<human>:",
    "{}",
    "\ud800",
    " ",
    "\n",
]
TEXT = st.lists(st.sampled_from(MEAN) | st.text(max_size=8), max_size=4).map("".join)
REPLY = TEXT.filter(lambda text: text.strip() != "")


def fitting(template):
    return BLOOM if template == "yayi" else LLAMA


def learnt_parts(tokenizer, encoded):
    """The text of every learnt stretch, and the ids that end them."""
    parts, at = [], 0
    for learnt, run in groupby(encoded.learnt):
        end = at + len(list(run))
        if learnt:
            ids = encoded.ids[at:end]
            # LLaMA's decoder drops the space before the first word: something stands before it.
            anchor = tokenizer("x", add_special_tokens=False)["input_ids"]
            text = tokenizer.decode([*anchor, *ids[:-1]], skip_special_tokens=False)
            parts.append((text.removeprefix("x"), ids[-1]))
        at = end
    return parts


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("case", ["single", "system", "multi"])
def test_golden_mask(template, case):
    golden = json.loads((GOLDEN / f"mask_{template}.json").read_text(encoding="utf-8"))[case]
    tokenizer = fitting(template)
    ids, learnt = encode_conversation(tokenizer, golden["conversation"], template, max_length=2000)
    wanted = [
        (piece, kind == "learnt")
        for run in golden["tokens"]
        for kind, pieces in run.items()
        for piece in pieces.split(" ")
    ]
    assert list(zip(tokenizer.convert_ids_to_tokens(ids), learnt, strict=True)) == wanted


@given(
    st.sampled_from(sorted(TEMPLATES)),
    st.lists(st.tuples(REPLY, REPLY), min_size=1, max_size=3),
    TEXT,
)
def test_learnt_tokens_are_exactly_the_replies_and_their_ends(template, turns, system):
    tokenizer, form = fitting(template), TEMPLATES[template]
    encoded = encode_conversation(
        tokenizer,
        talk(*(t for turn in turns for t in turn), system=system),
        template,
        max_length=10**6,
    )
    end = encoder(tokenizer, template).end
    wanted = [
        ((form.opening + reply + form.closing).replace("\ud800", "\ufffd"), end)
        for _, reply in turns
    ]
    assert learnt_parts(tokenizer, encoded) == wanted
    assert len(encoded.ids) == len(encoded.learnt)


@given(st.sampled_from(sorted(TEMPLATES)), TEXT, TEXT)
def test_text_from_data_never_becomes_a_control_token(template, question, system):
    for tokenizer in {fitting(template), LOOSE if template == "yayi" else LLAMA}:
        form = encoder(tokenizer, template)
        plain, hostile = form.prompt("q", "s"), form.prompt(question, system or "s")
        control = set(tokenizer.get_added_vocab().values()) - {tokenizer.unk_token_id}
        assert [i for i in hostile if i in control] == [i for i in plain if i in control]


@given(st.sampled_from(sorted(TEMPLATES)), REPLY, REPLY)
def test_the_training_prefix_is_the_prompt(template, question, reply):
    tokenizer = fitting(template)
    ids, learnt = encode_conversation(tokenizer, talk(question, reply), template, max_length=10**6)
    assert ids[: learnt.index(True)] == encode_prompt(tokenizer, question, template)


@pytest.mark.parametrize("template", [t for t in TEMPLATES if TEMPLATES[t].chat_template])
@pytest.mark.parametrize("system", ["", "请用中文回答。"])
def test_pitfall_bos_in_training_and_inference(template, system):
    """evalsuite renders the prompt and puts the tokenizer's own lead before it; training sees the same ids."""
    tokenizer = fitting(template)
    for question in ("1 + 1 = ?", "你好\n再见", " x ", "题目：A. 一\nB. 二\n答案是："):
        text = render(
            BUILTIN[TEMPLATES[template].chat_template],
            Prompt(text=question, system=system),
            tokenizer.bos_token or "",
            tokenizer.eos_token,
        )
        asked = tokenizer(text, add_special_tokens=not text.startswith("<s>"))["input_ids"]
        assert encoder(tokenizer, template).prompt(question, system) == asked
        if template != "yayi":
            assert asked[0] == tokenizer.bos_token_id != asked[1]


@pytest.mark.parametrize("template", ["ziya", "tencent", "plain", "rm"])
def test_exactly_one_bos(template):
    ids, _ = encode_conversation(LLAMA, talk("a <s> b", "<s>", "c", "d"), template, max_length=500)
    assert ids.count(LLAMA.bos_token_id) == 1
    with pytest.raises(BadRecipe, match="puts nothing before a text"):
        encode_prompt(llama_tokenizer(adds_bos=False), "a", template)


def test_pitfall_multi_turn_masks_assume_a_fixed_number_of_marker_tokens():
    """Where YaYi's markers are no single tokens, the mask still covers the replies and nothing else."""
    spelled = llama_tokenizer(eos_token="<|End|>", pad_token="<|End|>")
    conversation = talk("Hi", "你好", "ok", "答案", "再见", "5")
    counts = []
    for tokenizer in (BLOOM, spelled):
        encoded = encode_conversation(tokenizer, conversation, "yayi", max_length=2000)
        parts = learnt_parts(tokenizer, encoded)
        assert [text.strip() for text, _ in parts] == ["你好", "答案", "5"]
        counts.append(len(encoder(tokenizer, "yayi").prompt("")))
    assert counts[0] != counts[1]


@pytest.mark.parametrize("template", TEMPLATES)
def test_pitfall_truncation_drops_eos(template):
    """Whatever the limit, what is kept ends with a reply's end; else the sample is refused."""
    tokenizer, conversation = fitting(template), talk("Hi", "你好", "ok", "答案", "再见", "5")
    form = encoder(tokenizer, template)
    whole = encode_conversation(tokenizer, conversation, template, max_length=10**6)
    ends = [i + 1 for i, (t, le) in enumerate(zip(*whole, strict=True)) if le and t == form.end]
    assert len(ends) == 3
    for limit in range(1, len(whole.ids) + 2):
        fitting_ends = [end for end in ends if end <= limit]
        if not fitting_ends:
            with pytest.raises(Unusable, match="too long"):
                encode_conversation(tokenizer, conversation, template, max_length=limit)
            continue
        ids, learnt = encode_conversation(tokenizer, conversation, template, max_length=limit)
        assert ids == whole.ids[: fitting_ends[-1]]
        assert ids[-1] == form.end
        assert learnt[-1]


@pytest.mark.parametrize(
    ("tokenizer", "template", "says"),
    [
        (LLAMA, "yayi", r"'yayi'.*'<\|End\|>' is not a single token"),
        (bloom_tokenizer(eos_token="<|YaYi|>"), "yayi", r"EOS is '<\|YaYi\|>'.*never stop"),
        (BLOOM, "atom", "'atom'.*'</s>' is not a single token"),
        (BLOOM, "ziya", "'ziya'.*BOS, and the tokenizer has none"),
        (llama_tokenizer(eos_token=None), "ziya", "ends with EOS, and the tokenizer has none"),
        (LLAMA, "zyia", "no template named 'zyia'\n.*did you mean 'ziya'"),
    ],
)
def test_a_template_that_does_not_fit_is_refused(tokenizer, template, says):
    with pytest.raises(BadRecipe, match=f"(?s){says}"):
        encode_prompt(tokenizer, "Hi", template)


@pytest.mark.parametrize(
    ("conversation", "reason"),
    [
        (talk("Hi"), "no reply"),
        (talk(), "no reply"),
        (talk("Hi", " \n"), "empty reply"),
        (talk("Hi", "ok", "b", ""), "empty reply"),
        (talk("", "ok"), "empty question"),
        ({"conversations": [{"from": "assistant", "value": "a"}]}, "turns out of order"),
        ({"conversations": [{"from": "cat", "value": "a"}]}, "unknown speaker"),
        ({"conversations": [{"from": "human", "value": 3}]}, "not a conversation"),
        ({}, "not a conversation"),
    ],
)
def test_a_conversation_without_something_to_learn_is_refused(conversation, reason):
    with pytest.raises(Unusable) as fault:
        encode_conversation(LLAMA, conversation, "ziya", max_length=100)
    assert fault.value.reason == reason
