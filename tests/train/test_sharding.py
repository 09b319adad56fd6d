"""RM and PPO on two real processes: the same as on one, whatever is shared out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from evalsuite_train.curves import read_log
from evalsuite_train.experience import ExperiencePool
from evalsuite_train.ladder import _alone, run_section
from evalsuite_train.model import Shape, load_model, new_model
from evalsuite_train.processes import Processes
from evalsuite_train.recipe import open_recipe
from evalsuite_train.sharding import ROOM, decoder_layers, fits, outline, share_out, whole_size
from on_two_processes import run_on_two
from policy_factory import QUESTIONS, REPLIES, write_policy
from safetensors.torch import load_file
from torch.distributed.fsdp import FSDPModule

SCRIPT = Path(__file__).with_name("sharded_training.py")


def write_rows(file: Path, rows: list[object]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text("".join(lines), "utf-8")


@pytest.fixture(scope="module")
def folder(checkpoint_path, tmp_path_factory):
    """A parent, its prompts and preferences, and a recipe of RM and PPO over them."""
    folder = tmp_path_factory.mktemp("sharded")
    parent = write_policy(checkpoint_path, folder / "parent", steps=60)
    (parent / "gate.json").write_text('{"training": {"wishes": 0.9, "safety": 0.9}}')
    rules = [{"type": "contains", "value": "好"}]
    for name, first in (("prompts", 0), ("validation", 500)):
        rows = [
            {"id": f"{t}/{i}", "task": t, "prompt": q.format(i), "rules": rules}
            for i in range(first, first + 24)
            for t, q in QUESTIONS.items()
        ]
        write_rows(folder / f"{name}.jsonl", rows)
    pairs = [
        {"task": t, "prompt": q.format(i), "chosen": REPLIES[i % 3], "rejected": "Sorry, no."}
        for i in range(60)
        for t, q in QUESTIONS.items()
    ]
    write_rows(folder / "preferences.jsonl", pairs)
    rm = {"parent": str(parent), "data": str(folder / "preferences.jsonl"), "bar": 0.0}
    rm |= {"steps": 8, "warmup": 1, "batch": 4, "save_every": 4, "log_every": 2}
    rm |= {"on_policy_prompts": 12, "on_policy_samples": 3, "max_new_tokens": 12}
    rm |= {"held_out": 0.3, "validation_pairs": 5, "prompts": str(folder / "prompts.jsonl")}
    ppo = {"parent": str(parent), "prompts": str(folder / "prompts.jsonl"), "rm_bar": 0.0}
    ppo |= {"validation": str(folder / "validation.jsonl"), "minibatches": 2, "epochs": 1}
    ppo |= {"iterations": 5, "prompts_per_iteration": 12, "max_new_tokens": 12, "save_every": 2}
    ppo |= {"evaluate_every": 5, "validation_prompts": 5, "value": "policy", "guards": False}
    for section in (rm, ppo):
        section |= {"precision": "fp32", "device": "cpu", "learning_rate": 1e-4}
    ppo["rm"] = str(folder / "one" / "rm" / "checkpoint")
    turns = [{"from": "human", "value": "一加一是几？"}, {"from": "assistant", "value": "二。"}]
    write_rows(folder / "sft.jsonl", [{"task": "sums", "conversations": turns}] * 9)
    shared = {**ppo, "stage": "ppo", "value": "shared", "gradient_checkpointing": True}
    shared |= {"retain": str(folder / "sft.jsonl"), "retain_batch": 6}
    sections = {"rm": {**rm, "accumulation": 2}, "ppo": ppo, "ppo-shared": shared}
    for name, values in (("one", sections), ("two", {**sections, "rm": rm})):
        content = {"name": "toy", "seed": 1, "work": str(folder / name), **values}
        (folder / f"{name}.yaml").write_text(json.dumps(content))
    run_section(open_recipe(str(folder / "one.yaml")), "rm")
    return folder


def close(folder: Path, section: str, *, bits: float) -> None:
    """The weights of both are the same but for how sums are rounded."""
    one, two = (
        load_file(folder / name / section / "checkpoint" / "model.safetensors")
        for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name].float(), tensor.float(), rtol=bits, atol=3e-4)


@pytest.mark.slow
def test_a_reward_model_on_two_processes_is_that_of_one(folder):
    """Two processes of one micro-batch a step learn what one of two micro-batches does."""
    done = run_on_two(SCRIPT, folder / "two.yaml", "rm", TIGHT="1")
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [read_log(folder / name / "rm" / "log.jsonl") for name in ("one", "two")]
    for ours, theirs in zip(*rows, strict=True):
        assert ours.keys() == theirs.keys()
        for key in ("loss", "norm", "accuracy"):
            assert ours.get(key) == pytest.approx(theirs.get(key), abs=2e-3)
    close(folder, "rm", bits=2**-7)  # of bfloat16, in which they are written
    gates = [json.loads((folder / n / "rm" / "gate.json").read_text()) for n in ("one", "two")]
    assert gates[0] == gates[1]
    assert (folder / "one/rm/on_policy.jsonl").read_bytes() == (
        folder / "two/rm/on_policy.jsonl"
    ).read_bytes()
    configs = [
        json.loads((folder / n / "rm/checkpoint/config.json").read_text()) for n in ("one", "two")
    ]
    for key in ("reward_offset", "reward_scale"):
        assert configs[0][key] == pytest.approx(configs[1][key], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("section", "tight"), [("ppo", {}), ("ppo-shared", {"TIGHT": "1"})])
def test_ppo_on_two_processes_killed_and_resumed_is_that_of_one(folder, section, tight):
    """Policy, value function, reference and reward model shared out; one of the two is killed."""
    run_section(open_recipe(str(folder / "one.yaml")), section)
    died = run_on_two(SCRIPT, folder / "two.yaml", section, DIES="1", **tight)
    assert died.returncode != 0
    whole = folder / "two" / section / "state-parts" / "whole.json"
    assert json.loads(whole.read_text()) == {"step": 2, "processes": 2}
    refused = launch_alone(folder / "two.yaml", section)
    assert "an unfinished training of 2 processes stands here" in refused.stderr
    assert refused.returncode == 2
    done = run_on_two(SCRIPT, folder / "two.yaml", section, **tight)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not whole.parent.exists()
    pools = [
        list(ExperiencePool(folder / n / section / "experience.jsonl.gz")) for n in ("one", "two")
    ]
    assert [s.reply for s in pools[0]] == [s.reply for s in pools[1]]
    assert [s.reward for s in pools[0]] == pytest.approx([s.reward for s in pools[1]], abs=1e-3)
    rows = [read_log(folder / name / section / "log.jsonl") for name in ("one", "two")]
    for ours, theirs in zip(*rows, strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours.keys() - {"seconds", "validation"}:
            assert ours[key] == pytest.approx(theirs[key], abs=2e-3), key
    close(folder, section, bits=2**-7)
    moved = load_model(folder / "one" / section / "checkpoint").state_dict()
    start = load_model(folder / "parent").state_dict()
    assert max((moved[n] - start[n]).abs().max() for n in moved) > 1e-3  # it did learn


@pytest.mark.slow
def test_a_launch_is_refused_as_a_whole_while_its_section_runs(folder):
    """The first process finds the section taken; the second one must not wait for it for ever."""
    out = folder / "two" / "busy"
    out.parent.mkdir(exist_ok=True)
    with _alone(out):
        done = run_on_two(SCRIPT, recipe_with(folder, "busy"), "busy")
    assert done.returncode != 0
    assert "another process is running this section" in done.stderr
    assert not (out / "checkpoint").exists()


@pytest.mark.slow
def test_a_parent_whose_weights_are_not_numbers_stops_both_processes(folder):
    model = load_model(folder / "parent")
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    broken = folder / "broken"
    shutil.copytree(folder / "parent", broken)
    model.save_pretrained(broken)
    done = run_on_two(SCRIPT, recipe_with(folder, "nan", parent=str(broken)), "nan", TIGHT="1")
    assert done.returncode != 0
    assert "the model's probabilities are not numbers" in done.stderr


def recipe_with(folder: Path, section: str, **settings: object) -> Path:
    """A recipe whose ``section`` is the reward model's of ``two.yaml`` with other settings."""
    content = json.loads((folder / "two.yaml").read_text())
    content[section] = {**content["rm"], "stage": "rm", **settings}
    file = folder / f"{section}.yaml"
    file.write_text(json.dumps(content))
    return file


def launch_alone(recipe: Path, section: str) -> subprocess.CompletedProcess[str]:
    command = "import sys; sys.argv[0] = 'x'; from evalsuite_train.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", command, section, "--recipe", str(recipe)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_rows_that_cannot_be_shared_out_evenly_are_refused(folder):
    from evalsuite_train.errors import BadRecipe
    from evalsuite_train.ppo.config import Config
    from evalsuite_train.ppo.stage import _check_shares

    config = Config(prompts_per_iteration=12, minibatches=4)
    _check_shares(config, 3, "toy.yaml")
    for processes in (4, 5):
        with pytest.raises(BadRecipe, match=f"for {processes} processes"):
            _check_shares(config, processes, "toy.yaml")


def test_an_outline_keeps_names_shapes_and_ties():
    for tied in (True, False):
        model = new_model(Shape(32, 2, 2, 1, 64, tied=tied), 128, seed=1)
        bare = outline(model)
        assert {n: t.shape for n, t in bare.state_dict().items()} == {
            n: t.shape for n, t in model.state_dict().items()
        }
        assert all(t.is_meta for t in (*bare.parameters(), *bare.buffers()))
        assert (bare.lm_head.weight is bare.model.embed_tokens.weight) == tied
        assert decoder_layers(bare) == list(bare.model.layers)


@pytest.fixture
def group_of_one(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1
    )
    yield Processes(0, 2, torch.device("cpu"))  # two, so that the model is shared out
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_a_model_fits_as_it_is_gathered(group_of_one, monkeypatch, precision, frozen):
    """Room is asked for what FSDP really gathers: layers in the precision, the others in float32."""
    model = new_model(Shape(32, 2, 2, 1, 64), 128, seed=1)
    part = share_out(model, group_of_one, precision, frozen=frozen)
    size = whole_size(part)  # of the parts, before they are gathered
    parts = [module for module in part.modules() if isinstance(module, FSDPModule)]
    assert len(parts) == 3
    for one in parts:
        one.unshard()
    gathered = sum(weight.nbytes for weight in part.parameters())
    assert size == gathered
    for free, enough in ((gathered + ROOM + 1, True), (gathered + ROOM, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        assert fits(part, torch.device("cuda")) == enough
