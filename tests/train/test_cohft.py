"""COHFT: the chain of hindsight token by token, forgetful masking, and asking with the good marker."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from evalsuite_train import cohft
from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.cohft import chain, forgetful, prompt_text
from evalsuite_train.errors import BadRecipe
from evalsuite_train.feedback.batches import Source, batches
from evalsuite_train.ladder import run_section
from evalsuite_train.model import load_model
from evalsuite_train.recipe import Recipe
from evalsuite_train.rm.pairs import Pair
from evalsuite_train.sft.samples import Sample
from evalsuite_train.templates import Unusable

ZH = Pair("t", "题目：中国在哪里？", "亚洲", "欧洲")
EN = Pair("t", "What is 2 + 3?", "The answer is 5.", "The answer is 6.")
SETTINGS = {
    "data": "preferences.jsonl",
    "pt": "pt.jsonl",
    "pt_share": 0.125,
    "sft": "sft.jsonl",
    "replay": 0.25,
    "batch": 8,
    "steps": 40,
    "warmup": 2,
    "learning_rate": 3e-3,
    "precision": "fp32",
    "max_length": 160,
    "device": "cpu",
    "log_every": 10,
}


@pytest.fixture
def recipe(checkpoint_path, tmp_path):
    pairs = [
        {"task": p.task, "prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected}
        for p in (ZH, EN)
    ]
    write(tmp_path / "preferences.jsonl", pairs)
    write(
        tmp_path / "pt.jsonl",
        [{"text": "今天天气很好，我们去公园散步。", "source": "s", "language": "zh"}],
    )
    conversations = [
        {
            "task": task,
            "conversations": [{"from": "human", "value": q}, {"from": "assistant", "value": a}],
        }
        for task, q, a in (
            ("u", "你好", "你好，有什么可以帮你？"),
            ("t", "What?", "A bad answer of a task with pairs."),
        )
    ]
    write(tmp_path / "sft.jsonl", conversations * 3)
    section = {"parent": str(checkpoint_path), **SETTINGS}
    return Recipe("toy", 1, tmp_path, ("cohft",), {"cohft": section}, "toy.yaml")


def write(file, rows):
    file.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )


@pytest.fixture(scope="module")
def tokenizer(checkpoint_path):
    return load_tokenizer(checkpoint_path)


@pytest.mark.parametrize("pair", [ZH, EN], ids=["zh", "en"])
@pytest.mark.parametrize("good_first", [True, False])
def test_a_chain_is_both_replies_behind_their_markers(tokenizer, pair, good_first):
    example = chain(tokenizer, pair, good_first=good_first, max_length=200)
    good, bad = ("好的回答：", "差的回答：") if pair is ZH else ("A good answer:", "A bad answer:")
    first, second = (good + pair.chosen, bad + pair.rejected)
    if not good_first:
        first, second = second, first
    text = tokenizer.decode(example.ids)
    assert text.replace("<s> ", "<s>").replace("</s> ", "</s>") == (
        f"<s><human>:{pair.prompt}\n<bot>:{first}</s>\n{second}</s>"
    )
    assert example.ids.tolist().count(tokenizer.bos_token_id) == 1
    assert example.ids[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("good_first", [True, False])
def test_only_replies_and_their_eos_are_learnt(tokenizer, good_first):
    example = chain(tokenizer, EN, good_first=good_first, max_length=200)
    spans, span = [], []
    for token, learn in zip(example.ids, example.learnt, strict=True):
        if learn:
            span.append(token)
        elif span:
            spans.append(span)
            span = []
    spans.append(span)
    said = [tokenizer.decode(span).strip() for span in spans]
    replies = [f"{EN.chosen}</s>", f"{EN.rejected}</s>"]
    assert said == (replies if good_first else replies[::-1])


def test_replay_is_other_tasks_behind_the_good_marker(recipe, tokenizer, checkpoint_path):
    config = recipe.config("cohft", cohft.Config)
    samples = cohft._replayed(tokenizer, recipe.work / "sft.jsonl", {"t"}, config)
    assert [sample.task for sample in samples] == ["u"] * 3
    text = tokenizer.decode(samples[0].ids)
    assert text == "<s> <human>:你好\n<bot>:好的回答：你好，有什么可以帮你？</s>".replace(
        "<s> ", text[: text.index("<h")]
    )
    said = tokenizer.decode(samples[0].ids[samples[0].learnt])
    assert said.strip() == "你好，有什么可以帮你？</s>"
    # Where every task has pairs there is nothing to replay, and the pairs take its place.
    assert cohft._replayed(tokenizer, recipe.work / "sft.jsonl", {"t", "u"}, config) == []


def test_a_chain_that_is_too_long_is_refused_and_never_cut(tokenizer):
    length = len(chain(tokenizer, EN, good_first=True, max_length=200).ids)
    with pytest.raises(Unusable, match="too long"):
        chain(tokenizer, EN, good_first=True, max_length=length - 1)


def test_row_human_feedback_cohft(recipe, checkpoint_path):
    run_section(recipe, "cohft")
    assert not [*recipe.folder("cohft").glob("state*.pt")]  # they go once the checkpoint stands
    out = recipe.folder("cohft")
    assert json.loads((out / "ledger.json").read_text()) == {
        "pairs": 2,
        "chains": 4,
        "dropped": {},
        "replayed": 3,
    }
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"] / 2
    card = json.loads((out / "checkpoint" / "evalsuite.json").read_text())
    assert (card["stage"], card["step"]) == ("cohft", 40)
    # Asked with the good marker it prefers the good reply, with the bad marker the bad one.
    tokenizer, model = load_tokenizer(out / "checkpoint"), load_model(out / "checkpoint")
    for pair in (ZH, EN):
        margins = {}
        for marker in (cohft.GOOD, cohft.BAD):
            spoken = marker[cohft.language(pair.prompt)]
            text = f"<human>:{pair.prompt}\n<bot>:{spoken}"
            good, bad = (
                logprob(model, tokenizer, text, reply) for reply in (pair.chosen, pair.rejected)
            )
            margins[spoken] = good - bad
        good_margin, bad_margin = margins.values()
        assert good_margin > 0 > bad_margin


def logprob(model, tokenizer, text, reply):
    """Independent of the training code: the summed log-probability of a reply after a prompt."""
    prompt = tokenizer(text)["input_ids"]
    whole = tokenizer(text + reply)["input_ids"]
    assert whole[: len(prompt)] == prompt
    with torch.inference_mode():
        logprobs = model(torch.tensor([whole])).logits.log_softmax(-1)[0]
    return sum(float(logprobs[i - 1, whole[i]]) for i in range(len(prompt), len(whole)))


@pytest.mark.parametrize(
    "question",
    [
        "中国在哪里？",
        "What is it?",
        "Translate into English: 猫",
        "{{ 7 * 7 }} {% raw %}",
        "<bot>:'x'\n\n",
        "①②",
        "鿿",
    ],
)
def test_evalsuite_asks_with_the_good_marker_as_in_training(recipe, tokenizer, question):
    from evalsuite.chat import FROM_CHECKPOINT, render, resolve_template
    from evalsuite.checkpoint import open_checkpoint
    from evalsuite.request import Prompt

    recipe.sections["cohft"]["steps"] = 1
    run_section(recipe, "cohft")
    checkpoint = open_checkpoint(str(recipe.folder("cohft") / "checkpoint"))
    template = resolve_template(checkpoint)
    assert template.name == FROM_CHECKPOINT
    text = render(template, Prompt(text=question), "<s>", "</s>")
    assert text == prompt_text(question)
    pair = Pair("t", question, "好", "坏")
    ids = chain(tokenizer, pair, good_first=True, max_length=400).ids
    asked = tokenizer(text)["input_ids"]
    assert ids[: len(asked)].tolist() == asked


def example(*ids):
    return Sample("t", "", np.array(ids, np.int32), np.arange(len(ids)) > 0)


def test_forgetful_masking_hides_inputs_and_never_targets_or_the_start():
    examples = [example(1, *range(3, 103))]
    plain = batches([Source(examples, 1.0)], 64, 5, row=100)
    masked = forgetful(plain, 0.2, 0, 5)
    one, two = next(plain(3)), next(masked(3))
    assert torch.equal(one.targets, two.targets)
    hidden = two.inputs == 0
    assert not hidden[two.positions == 0].any()
    assert torch.equal(two.inputs[~hidden], one.inputs[~hidden])
    shares = hidden.float().mean(1)  # one sample a row
    assert two.inputs.shape == (64, 100)
    assert shares.max() < 0.35
    assert 0.06 < shares.mean() < 0.14
    assert shares.min() < 0.05
    assert torch.equal(two.inputs, next(forgetful(plain, 0.2, 0, 5)(3)).inputs)
    stream = masked(0)
    later = [next(stream) for _ in range(4)][3]
    assert torch.equal(later.inputs, two.inputs)
    assert torch.equal(next(forgetful(plain, 0.0, 0, 5)(0)).inputs, next(plain(0)).inputs)


def test_batches_hold_their_shares_and_lose_no_example():
    own = [example(1, 10 + i, 2) for i in range(7)]
    other = [example(1, 100 + i, 2) for i in range(5)]
    stream = batches([Source(own, 0.7), Source(other, 0.3)], 8, 1)
    drawn = [
        batch.inputs[batch.inputs >= 10] for batch, _ in zip(stream(0), range(35), strict=False)
    ]
    seen = torch.cat(drawn).tolist()
    assert len(seen) == 280
    assert sum(token >= 100 for token in seen) == 84
    assert {seen.count(token) for token in range(10, 17)} == {28}
    later = next(stream(20))
    again = stream(0)
    assert torch.equal([next(again) for _ in range(21)][20].inputs, later.inputs)


@pytest.mark.parametrize(
    ("key", "value"), [("pt_share", 1.0), ("forgetting", -0.1), ("replay", 0.9)]
)
def test_a_bad_setting_is_refused(recipe, key, value):
    recipe.sections["cohft"][key] = value
    with pytest.raises(BadRecipe, match=key):
        run_section(recipe, "cohft")
