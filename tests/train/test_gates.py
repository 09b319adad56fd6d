"""Gates: what is below its bar, or was never measured, is named with task, value and bar."""

from __future__ import annotations

import json

import pytest
from evalsuite_train.errors import GateClosed, TrainError
from evalsuite_train.gates import check_gate, check_settings, read_gate


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "sft" / "checkpoint"
    folder.mkdir(parents=True)
    return folder


def write(folder, **content):
    (folder / "gate.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(("of", "key"), [("sft", "training"), ("rm", "tasks")])
def test_an_open_gate_returns_what_was_measured(checkpoint, of, key):
    write(checkpoint.parent, stage=of, **{key: {"code": 0.9, "safety": 0.8}})
    assert check_gate(checkpoint, 0.8, ["safety"], of=of) == {"code": 0.9, "safety": 0.8}


@pytest.mark.parametrize(
    ("key", "of", "says"),
    [
        ("training", "rm", "this is a policy, and a reward model is asked for"),
        ("tasks", "sft", "this is a reward model, and a policy is asked for"),
    ],
)
def test_a_policy_is_no_reward_model_however_good_it_is(checkpoint, key, of, says):
    write(checkpoint, **{key: {"code": 1.0}})
    with pytest.raises(GateClosed, match=rf"checkpoint: {says}\n.*stage {of}"):
        check_gate(checkpoint, 0.8, ["code"], of=of)


def test_a_closed_gate_names_task_value_and_bar(checkpoint):
    write(checkpoint, training={"code": 0.9, "safety": 0.75})
    with pytest.raises(GateClosed) as closed:
        check_gate(checkpoint, 0.8, ["code", "safety", "wishes"], of="sft")
    assert "accuracy on its training split is below 0.8: safety 0.750, wishes not measured" in str(
        closed.value
    )
    assert str(checkpoint) in str(closed.value)
    assert "code 0.9" not in str(closed.value)


def test_the_checkpoints_own_file_counts_before_the_one_beside_it(checkpoint):
    write(checkpoint, tasks={"code": 0.5})
    write(checkpoint.parent, tasks={"code": 0.9})
    assert read_gate(checkpoint, "rm") == {"code": 0.5}


def test_not_a_number_is_below_every_bar(checkpoint):
    write(checkpoint, tasks={"code": float("nan")})
    with pytest.raises(GateClosed, match="code nan"):
        check_gate(checkpoint, 0.0, ["code"], of="rm")


def test_never_measured_is_closed(checkpoint):
    with pytest.raises(GateClosed, match="never measured"):
        read_gate(checkpoint, "rm")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"tasks": 3}', '{"other": {}}', '{"tasks": {"a": "b"}}']
)
def test_a_damaged_gate_is_closed(checkpoint, content):
    (checkpoint / "gate.json").write_text(content, encoding="utf-8")
    with pytest.raises(GateClosed, match="not a gate's file"):
        read_gate(checkpoint, "rm")


def test_a_state_of_other_settings_is_not_gone_on_with(tmp_path):
    state = {"settings": {"kl": 0.03, "seed": 1}}
    check_settings(state, {"kl": 0.03, "seed": 1}, tmp_path)
    with pytest.raises(TrainError, match=r"kl 0\.03 \(now 0\.05\)"):
        check_settings(state, {"kl": 0.05, "seed": 1}, tmp_path)
