"""Hostile rows, names and settings of the training stages: each is one message that names its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from evalsuite_train.checkpoint import load_tokenizer, read_card
from evalsuite_train.errors import BadData, BadRecipe, Diverged, TrainError, shown
from evalsuite_train.feedback.candidates import Sampling, sample
from evalsuite_train.feedback.rows import Asked, read_prompts
from evalsuite_train.generation import generate
from evalsuite_train.ladder import run_section
from evalsuite_train.model import load_model
from evalsuite_train.recipe import Recipe
from evalsuite_train.sft.curriculum import measure_difficulty
from sft_factory import sft_recipe, write_data

HOSTILE = "a\nerror: forged\x1b[31m|<b>\u202e"
HEAVY = [{"type": "refuses", "weight": 1e308}] * 3


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"id": "a\ud800", "prompt": "x"}, "a lone surrogate"),
        ({"id": "a", "prompt": "x", "rules": 5}, "no list of rules"),
        ({"id": "a", "prompt": "x", "rules": True}, "no list of rules"),
        ({"id": "a", "prompt": "x", "rules": HEAVY}, "is not from 0 to"),
        ({"id": "a", "prompt": "x" * (5 << 20)}, "longer than 4 MiB"),
    ],
)
def test_a_hostile_prompt_is_named_by_its_line(tmp_path, row, says):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"id": "good", "prompt": "x"}\n' + json.dumps(row) + "\n")
    with pytest.raises(BadData, match=rf"prompts\.jsonl:2: .*{says}"):
        read_prompts(file)


def test_a_prompt_that_does_not_fit_is_named_before_anything_is_sampled(checkpoint_path, tmp_path):
    file = tmp_path / "prompts.jsonl"
    rows = [{"id": "a", "prompt": "你好"}, {"id": "b", "prompt": "你好" * 400}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sampling = Sampling(template="ziya", samples=2, max_new_tokens=4, temperature=1.0, top_p=1.0)
    model, tokenizer = load_model(checkpoint_path), load_tokenizer(checkpoint_path)
    journal = tmp_path / "journal"
    with pytest.raises(TrainError, match=r"prompts\.jsonl:2: \d+ tokens and a reply of 4"):
        sample(read_prompts(file), model, tokenizer, sampling, journal, seed=1, identity="x")
    assert not journal.exists()


def test_a_damaged_journal_of_candidates_is_named(checkpoint_path, tmp_path):
    sampling = Sampling(template="ziya", samples=2, max_new_tokens=4, temperature=1.0, top_p=1.0)
    model, tokenizer = load_model(checkpoint_path), load_tokenizer(checkpoint_path)
    journal, asked = tmp_path / "journal", [Asked("a", "你好")]

    def again():
        return sample(asked, model, tokenizer, sampling, journal, seed=1, identity="x")

    before = again()
    head, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(head + b"garbage\n" * len(rest))
    with pytest.raises(BadData, match=r"journal:2: not a candidate.*\n.*remove the file"):
        again()
    journal.unlink()
    assert again() == before


def test_a_model_whose_weights_are_not_numbers_says_so(checkpoint_path):
    model = load_model(checkpoint_path)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match="probabilities are not numbers"):
        generate(model, [[1, 5]], max_new_tokens=2, temperature=1.0)


@pytest.mark.parametrize("name", [HOSTILE, "a\ud800", ["x"], 5])
def test_a_card_whose_name_cannot_be_shown_is_refused(tmp_path, name):
    (tmp_path / "evalsuite.json").write_text(json.dumps({"name": name}))
    with pytest.raises(BadRecipe, match="its name is not one line of text") as refused:
        read_card(tmp_path)
    assert str(refused.value).isascii() or str(refused.value).splitlines()[0].isprintable()


def test_what_a_stranger_says_begins_no_line_of_ours():
    fault = TrainError(f"HTTP 401: {HOSTILE}", where="http://judge", hint="look")
    assert len(str(fault).splitlines()) == 2
    assert shown("\x1b\u202e\ud800好\n") == "\\x1b\\u202e\\ud800好\n"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weights": {"count": float("inf")}}, "weights are from 0"),
        ({"weights": {"count": 1e308, "colour": 1e308}}, "weights are from 0"),
        ({"steps": 0, "epochs": float("inf")}, "a number above 0"),
        ({"bad_share": float("nan")}, "bad_share is from 0 to 1"),
        ({"forgetting": float("nan")}, "forgetting a number"),
        ({"method": "lora", "adapter": {"rank": 0}}, "rank is at least 1"),
        ({"method": "lora", "adapter": {"targets": []}}, "name one layer"),
        ({"method": "lora", "adapter": {"dropout": 2.0}}, "dropout at least 0"),
        ({"device": "banana"}, "no device 'banana'"),
        ({"stages": 30, "steps": 60}, "30 stages, and at most 24 samples of a task"),
    ],
)
def test_a_setting_out_of_range_is_one_message(tmp_path, checkpoint_path, settings, says):
    write_data(tmp_path)
    with pytest.raises(BadRecipe, match=says):
        run_section(sft_recipe(tmp_path, checkpoint_path, **settings), "sft")


@pytest.mark.parametrize("template", ["{{ 1/0 }}", "{% for", "{{ raise_exception('no') }}"])
def test_a_chat_template_that_breaks_is_named(tmp_path, checkpoint_path, template):
    write_data(tmp_path)
    parent = tmp_path / "parent"
    parent.mkdir()
    for file in checkpoint_path.iterdir():
        (parent / file.name).write_bytes(file.read_bytes())
    (parent / "chat_template.jinja").write_text(template)
    with pytest.raises(BadRecipe, match=r"parent: its chat template breaks"):
        run_section(sft_recipe(tmp_path, parent), "sft")


def test_the_names_of_tasks_neither_act_on_a_terminal_nor_break_a_table(
    tmp_path, checkpoint_path, capsys
):
    write_data(tmp_path, copies=1)
    for file in (tmp_path / "data").iterdir():
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace('"colour"', json.dumps(HOSTILE)), encoding="utf-8")
    run_section(sft_recipe(tmp_path, checkpoint_path, steps=2, questions=2), "sft")
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert not [line for line in said.splitlines() if line.startswith("error: forged")]
    out = tmp_path / "sft"
    ElementTree.parse(out / "matrix.svg")
    card = (out / "checkpoint" / "README.md").read_text(encoding="utf-8")
    assert "\x1b" not in card
    assert "<b>" not in card
    row = next(line for line in card.splitlines() if "forged" in line and line.endswith("| 4 |"))
    assert row.startswith("| a error: forged")


@pytest.mark.parametrize("content", ["{", "[]", '{"key": "k"}', '{"key": "k", "loss": 5}'])
def test_damaged_difficulties_are_measured_again(tmp_path, checkpoint_path, content):
    from evalsuite_train.sft.samples import read_samples

    write_data(tmp_path, copies=1)
    model, tokenizer = load_model(checkpoint_path), load_tokenizer(checkpoint_path)
    data = tmp_path / "data" / "sft.jsonl"
    samples, _ = read_samples(data, tokenizer, "ziya", max_length=96)
    cache = tmp_path / "difficulty.json"
    before = measure_difficulty(model, samples, cache, "k")
    cache.write_text(content)
    assert np.array_equal(measure_difficulty(model, samples, cache, "k"), before)


@pytest.mark.parametrize(
    ("section", "changes", "says"),
    [
        ("hfft", {"batch": 0}, "batch must be at least 1"),
        ("hfft", {"max_new_tokens": 0}, "max_new_tokens is 0"),
        ("hfft", {"asked": -3}, "asked is -3"),
        ("hfft", {"top_p": 0.0}, "top_p above 0"),
        ("hfft", {"temperature": float("inf")}, "temperature must be above 0"),
        ("hfft", {"bar": float("nan")}, "bar a number"),
        ("hfft", {"max_length": 4000}, "max_length is 4000, the model's context only 256"),
        ("cohft", {"batch": 0}, "batch must be at least 1"),
        ("cohft", {"max_length": 4000}, "max_length is 4000, the model's context only 256"),
        ("cohft", {"max_length": 8}, r"none of 2 pairs can be learnt from: \{'too long': 2\}"),
        ("dpo", {"max_length": 4000}, "max_length is 4000, the model's context only 256"),
        ("dpo", {"learning_rate": float("inf")}, "learning_rate and clip must be above 0"),
    ],
)
def test_a_setting_of_human_feedback_out_of_range_is_one_message(
    checkpoint_path, tmp_path, section, changes, says
):
    pair = {"task": "t", "prompt": "你好", "chosen": "你好，请说。", "rejected": "不"}
    rule = {"type": "max_characters", "value": 40}
    prompt = {"id": "a", "task": "t", "prompt": "你好", "rules": [rule]}
    for name, rows in (("pairs", [pair] * 2), ("prompts", [prompt])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    settings = {"parent": str(checkpoint_path), "steps": 1, "learning_rate": 1e-3}
    data = {"prompts": "prompts.jsonl"} if section == "hfft" else {"data": "pairs.jsonl"}
    recipe = Recipe("toy", 1, tmp_path, (), {section: settings | data | changes}, "toy.yaml")
    with pytest.raises(TrainError, match=says):
        run_section(recipe, section)


def test_hfft_and_cohft_killed_at_a_random_moment_end_with_the_same_weights(
    checkpoint_path, tmp_path
):
    """A real process and SIGKILL, while sampling or in training; then the same section again."""
    script = Path(__file__).with_name("killed_feedback.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(checkpoint_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert sorted(report) == ["cohft", "hfft"]
    for whole, resumed in report.values():
        assert whole == resumed
