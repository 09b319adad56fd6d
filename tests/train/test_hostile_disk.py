"""Full disks, kills in the middle of a save, two starts at once, and numbers that are none."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import time

import pytest
import torch
from evalsuite_train.alternatives.states import STATE, TrlStates
from evalsuite_train.checkpoint import write_checkpoint
from evalsuite_train.errors import BadData, Diverged, TrainError
from evalsuite_train.ladder import run_section
from evalsuite_train.model import load_model
from evalsuite_train.recipe import Recipe
from evalsuite_train.state import load_state, save_state
from safetensors.torch import load_file

SHORT = {
    "steps": 2,
    "batch": 4,
    "warmup": 0,
    "learning_rate": 1e-3,
    "precision": "fp32",
    "device": "cpu",
    "save_every": 1,
    "log_every": 1,
}


@pytest.fixture
def recipe(checkpoint_path, tmp_path):
    rule = {"type": "max_characters", "value": 30}
    rows = {
        "prompts": [
            {"id": str(i), "task": "t", "prompt": f"说{i}", "rules": [rule]} for i in range(6)
        ],
        "pairs": [
            {"task": "t", "prompt": f"你好{i}", "chosen": "你好，请说。", "rejected": "不"}
            for i in range(12)
        ],
    }
    for name, content in rows.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    shared = {"parent": str(checkpoint_path), **SHORT}
    online = {"prompts": "prompts.jsonl", "samples": 2, "max_new_tokens": 4, "guards": False}
    sections = {
        "dpo": {**shared, "data": "pairs.jsonl"},
        "grpo": {**shared, **online},
        "rloo": {**shared, **online},
    }
    return Recipe("toy", 1, tmp_path, (), sections, "toy.yaml")


@contextlib.contextmanager
def small_files(size):
    """No file can grow beyond ``size`` bytes, as if the disk were full; a real fault of write(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def weights(recipe, section):
    return load_file(recipe.folder(section) / "checkpoint" / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_full_disk_stops_trl_with_one_message_and_the_same_command_goes_on(recipe, tmp_path):
    with small_files(20_000), pytest.raises(TrainError, match=r"state-trl: cannot be written: "):
        run_section(recipe, "dpo")
    assert list((recipe.folder("dpo") / STATE).glob("checkpoint-1"))
    run_section(recipe, "dpo")
    other = Recipe("toy", 1, tmp_path / "other", (), recipe.sections, "toy.yaml")
    other.work.mkdir()
    (other.work / "pairs.jsonl").write_bytes((tmp_path / "pairs.jsonl").read_bytes())
    run_section(other, "dpo")
    assert same(weights(recipe, "dpo"), weights(other, "dpo"))


@pytest.mark.parametrize("torn", ["trainer_state.json", "optimizer.pt", "model.safetensors"])
def test_a_state_that_a_kill_cut_off_is_passed_over(recipe, monkeypatch, capsys, torn):
    from evalsuite_train.alternatives import training

    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            run_section(recipe, "dpo")
    file = recipe.folder("dpo") / STATE / "checkpoint-2" / torn
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    run_section(recipe, "dpo")
    assert "checkpoint-2 is not whole" in capsys.readouterr().out
    card = json.loads((recipe.folder("dpo") / "checkpoint" / "evalsuite.json").read_text())
    assert card["step"] == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"learning_rate": 1e-4}, "learning_rate"),
        ({"data": "less.jsonl"}, "data 'pairs"),
        ({}, "rows trained on"),  # the same file, with a row less
    ],
)
def test_a_state_of_other_settings_or_data_is_not_gone_on_with(recipe, monkeypatch, change, says):
    from evalsuite_train.alternatives import training

    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    lines = (recipe.work / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (recipe.work / "less.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(training, "write_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            run_section(recipe, "dpo")
    recipe.sections["dpo"] |= change
    if not change:
        (recipe.work / "less.jsonl").replace(recipe.work / "pairs.jsonl")
    with pytest.raises(TrainError, match=f"with other settings: .*{says}.*\n.*remove this folder"):
        run_section(recipe, "dpo")


def test_an_alarm_of_other_settings_does_not_stop_a_training_before_it_begins(tmp_path):
    """Before trl's first state there may be a look and an alarm; of other settings they mean nothing."""
    states = TrlStates(tmp_path / STATE)
    states.claim({"kl": 0.0})
    save_state(states.folder, {"step": 0, "position": 0, "alarm": "parted"})
    states.claim({"kl": 0.0})
    assert load_state(states.folder)["alarm"] == "parted"
    states.claim({"kl": 0.1})
    assert load_state(states.folder) is None


def test_a_training_that_diverged_says_so_and_a_lower_rate_starts_anew(recipe):
    recipe.sections["dpo"] |= {"learning_rate": 1e9, "steps": 4}
    with pytest.raises(Diverged, match=r"step \d: .* not finite"):
        run_section(recipe, "dpo")
    assert not (recipe.folder("dpo") / STATE).exists()
    recipe.sections["dpo"] |= {"learning_rate": 1e-5}
    run_section(recipe, "dpo")
    assert all(bool(w.isfinite().all()) for w in weights(recipe, "dpo").values())


def test_a_parent_whose_weights_are_not_numbers_is_named_as_the_fault(
    recipe, checkpoint_path, tmp_path
):
    parent = tmp_path / "broken"
    shutil.copytree(checkpoint_path, parent)
    model = load_model(checkpoint_path)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    model.save_pretrained(parent)
    recipe.sections["rloo"]["parent"] = str(parent)
    with pytest.raises(Diverged, match=r"step 0: .* not finite\n.*the parent itself is damaged"):
        run_section(recipe, "rloo")


def test_fewer_prompts_than_a_step_asks_are_refused(recipe):
    recipe.sections["grpo"]["batch"] = 14
    with pytest.raises(BadData, match="6 prompts, and a step asks 7"):
        run_section(recipe, "grpo")
    assert not (recipe.folder("grpo") / "checkpoint").exists()


def test_a_prompt_longer_than_the_context_is_named(recipe):
    row = {"id": "long", "task": "t", "prompt": "水" * 300, "rules": [{"type": "complies"}]}
    with (recipe.work / "prompts.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(TrainError, match=r"prompts\.jsonl:7: \d+ tokens and a reply of 4"):
        run_section(recipe, "grpo")


def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_half_written(
    recipe, checkpoint_path, tmp_path
):
    model, folder = load_model(checkpoint_path), tmp_path / "out" / "checkpoint"

    def write(step):
        return write_checkpoint(
            folder,
            model,
            tokenizer=checkpoint_path,
            recipe=recipe,
            section="dpo",
            step=step,
            parent=None,
            template="ziya",
        )

    write(1)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with small_files(20_000), pytest.raises(TrainError, match=r"checkpoint: cannot be written: "):
        write(2)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [file.name for file in folder.parent.iterdir()] == ["checkpoint"]


def test_a_second_start_of_a_section_is_refused_until_the_first_one_dies(recipe, monkeypatch):
    """A real process holds the section; it is killed with SIGKILL, and the section is free again."""
    from evalsuite_train.alternatives import dpo

    inside = recipe.work / "inside"
    run, here = dpo.run, os.getpid()

    def waits(*args):
        if os.getpid() != here:
            inside.touch()
            time.sleep(60)
        run(*args)

    monkeypatch.setattr(dpo, "run", waits)
    process = os.fork()
    if not process:
        run_section(recipe, "dpo")
        os._exit(0)
    try:
        until = time.monotonic() + 30
        while not inside.exists() and time.monotonic() < until:
            time.sleep(0.01)
        with pytest.raises(TrainError, match="another process is running this section"):
            run_section(recipe, "dpo")
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    run_section(recipe, "dpo")
    assert (recipe.folder("dpo") / "checkpoint").is_dir()
