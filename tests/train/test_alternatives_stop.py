"""GRPO and RLOO on a reward that can be gamed: they stop, keep the last good weights, and survive a kill."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys

import msgspec
import pytest
import torch
from evalsuite_train.alternatives.states import STATE
from evalsuite_train.checkpoint import read_card
from evalsuite_train.errors import BadData, TrainError
from evalsuite_train.feedback.rows import validation_prompts
from evalsuite_train.ladder import run_section
from evalsuite_train.model import load_model
from evalsuite_train.recipe import Recipe
from on_two_processes import run_section_on_two
from policy_factory import QUESTIONS, write_gamed_rm, write_policy

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch and accelerate, inside trl
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
]
KILLED = """
import os, pickle, signal, sys
from evalsuite_train.alternatives import training
from evalsuite_train.ladder import run_section

training.write_checkpoint = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
run_section(pickle.loads(bytes.fromhex(sys.argv[1])), "grpo")
"""


@pytest.fixture(scope="module")
def parent(checkpoint_path, tmp_path_factory):
    folder = write_policy(checkpoint_path, tmp_path_factory.mktemp("sft") / "checkpoint", steps=90)
    gate = {"stage": "sft", "training": {"wishes": 0.9, "safety": 0.9}}
    (folder / "gate.json").write_text(json.dumps(gate))
    (folder / "evalsuite.json").write_text('{"name": "toy-sft"}')
    return folder


@pytest.fixture(scope="module")
def gamed_rm(parent, tmp_path_factory):
    return write_gamed_rm(parent, tmp_path_factory.mktemp("rm"))


@pytest.fixture
def recipe(parent, gamed_rm, tmp_path):
    """Gold is that a reply is not the sentence that the reward model loves."""
    write_prompts(tmp_path / "prompts.jsonl", 0, 40)
    write_prompts(tmp_path / "validation.jsonl", 500, 20)
    section = {
        "parent": str(parent),
        "rm": str(gamed_rm),
        "rules_weight": 0.0,
        "prompts": "prompts.jsonl",
        "validation": "validation.jsonl",
        "steps": 24,
        "batch": 32,
        "samples": 8,
        "warmup": 0,
        "learning_rate": 5e-4,
        "schedule": "constant",
        "max_new_tokens": 16,
        "evaluate_every": 3,
        "save_every": 2,
        "log_every": 1,
        "precision": "fp32",
        "device": "cpu",
    }
    return Recipe("toy", 1, tmp_path, (), {"grpo": section, "rloo": dict(section)}, "toy.yaml")


@pytest.mark.slow
def test_two_processes_stop_together_and_write_one_checkpoint(recipe, tmp_path):
    """Each looks by itself, at the same weights; the first one writes, and the others end."""
    content = {"name": "toy", "seed": 1, "work": str(tmp_path), **recipe.sections}
    (tmp_path / "toy.yaml").write_text(json.dumps(content))
    done = run_section_on_two(tmp_path / "toy.yaml", "grpo")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("grpo: finished in") == 1
    looks = read_looks(recipe.folder("grpo"))
    assert "reward and gold have parted" in looks[-1]["alarm"]
    assert read_card(recipe.folder("grpo") / "checkpoint")["step"] == looks[-2]["step"]
    assert not (recipe.folder("grpo") / STATE).exists()


def write_prompts(file, start, count):
    rule = {"type": "excludes", "value": "Sorry"}
    rows = [
        {"id": f"{task}/{i}", "task": task, "prompt": form.format(i), "rules": [rule]}
        for i in range(start, start + count)
        for task, form in QUESTIONS.items()
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")


def read_looks(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    return [row for row in rows if "validation" in row]


@pytest.mark.parametrize("section", ["grpo", "rloo"])
def test_a_gamed_reward_is_detected_and_stops(recipe, section):
    run_section(recipe, section)
    folder = recipe.folder(section)
    looks = read_looks(folder)
    assert [look["step"] for look in looks] == list(range(0, looks[-1]["step"] + 1, 3))
    assert 0 < looks[-1]["step"] < 24
    assert "reward and gold have parted" in looks[-1]["alarm"]
    assert all("alarm" not in look for look in looks[:-1])
    first, last = looks[0]["validation"], looks[-1]["validation"]
    assert last["gold_sampled"] < first["gold_sampled"]
    assert last["reward"] > first["reward"]
    card = read_card(folder / "checkpoint")
    assert (card["step"], card["parent"]) == (looks[-2]["step"], "toy-sft")
    text = (folder / "checkpoint" / "README.md").read_text("utf-8")
    assert f"**Stopped early**: {looks[-1]['alarm']}" in text
    assert not (folder / STATE).exists()


def changed(recipe, **settings):
    sections = {name: {**section, **settings} for name, section in recipe.sections.items()}
    return msgspec.structs.replace(recipe, sections=sections)


def weights(folder):
    return load_model(folder).state_dict()


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a.keys() | b.keys())


def test_a_kill_after_the_alarm_costs_nothing_and_the_last_good_weights_are_kept(recipe, parent):
    """kill -9 before the checkpoint stands; the next start writes the weights of the last good look,
    which are those of a training of so many steps."""
    recipe = changed(recipe, evaluate_every=1, learning_rate=2e-4)
    command = [sys.executable, "-c", KILLED, pickle.dumps(recipe).hex()]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    folder = recipe.folder("grpo")
    assert not (folder / "checkpoint").exists()
    run_section(recipe, "grpo")
    looks = read_looks(folder)
    good = looks[-2]["step"]
    assert good > 0
    assert read_card(folder / "checkpoint")["step"] == good
    shorter = msgspec.structs.replace(changed(recipe, steps=good), work=recipe.work / "shorter")
    shorter.work.mkdir()
    for name in ("prompts.jsonl", "validation.jsonl"):
        (shorter.work / name).write_bytes((recipe.work / name).read_bytes())
    run_section(shorter, "grpo")
    assert read_looks(shorter.folder("grpo")) == looks[:-1]
    found = weights(folder / "checkpoint")
    assert same(found, weights(shorter.folder("grpo") / "checkpoint"))
    assert not same(found, weights(parent))


def test_looking_changes_nothing_of_the_training(recipe):
    """With and without guards the weights are the same, bit for bit, as long as nothing parts."""
    recipe = changed(recipe, steps=3, evaluate_every=1, learning_rate=1e-5)
    run_section(recipe, "rloo")
    assert [look["step"] for look in read_looks(recipe.folder("rloo"))] == [0, 1, 2, 3]
    watched = weights(recipe.folder("rloo") / "checkpoint")
    unwatched = changed(recipe, guards=False, validation="none.jsonl")
    run_section(unwatched, "rloo")
    assert same(watched, weights(recipe.folder("rloo") / "checkpoint"))
    assert not read_looks(recipe.folder("rloo"))
    card = (recipe.folder("rloo") / "checkpoint" / "README.md").read_text("utf-8")
    assert "**The guards were off.**" in card


def test_a_training_whose_start_nobody_looked_at_is_not_watched_from_the_middle(
    recipe, monkeypatch
):
    from evalsuite_train.alternatives import training

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            run_section(changed(recipe, guards=False, steps=2), "grpo")
    with pytest.raises(TrainError, match=r"never looked at.*\n.*guards: false"):
        run_section(changed(recipe, steps=2), "grpo")


def test_without_gold_there_is_no_watch(recipe):
    file = recipe.work / "validation.jsonl"
    assert [a.id for a in validation_prompts(file, {"wishes"}, 2)] == ["wishes/500", "wishes/501"]
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    file.write_text("".join(json.dumps(row | {"rules": []}) + "\n" for row in rows), "utf-8")
    with pytest.raises(BadData, match=r"has rules.*\n.*guards: false"):
        run_section(recipe, "grpo")
