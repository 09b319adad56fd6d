"""DeepSpeed's ZeRO on two real processes: the same training as on one, and whole weights at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from evalsuite_train.curves import read_log
from evalsuite_train.errors import BadRecipe, TrainError
from evalsuite_train.model import Shape, new_model
from evalsuite_train.trainer import train
from evalsuite_train.zero import fill, read_configuration
from free_port import free_port
from on_two_processes import run_on_two

sys.path.insert(0, str(Path(__file__).parent))
import zero_training

SCRIPT = Path(__file__).with_name("zero_training.py")


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_zero_trains_as_one_process_does_and_saves_whole_weights(
    tmp_path: Path, stage: int
) -> None:
    """Two processes, killed with SIGKILL on the way and started again, give the weights
    of one process that accumulates as many micro-batches. Every tensor of ZeRO-3 is shared out:
    by default DeepSpeed leaves small ones whole, and this model has only small ones.
    """
    pytest.importorskip("deepspeed")
    config = read_configuration(f"zero{stage}.json")
    config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    (tmp_path / "zero.json").write_text(json.dumps(config))
    died = run_on_two(SCRIPT, tmp_path / "zero", tmp_path / "zero.json", DIES="in its sixth step")
    assert "SIGKILL" in died.stderr
    done = run_on_two(SCRIPT, tmp_path / "zero", tmp_path / "zero.json")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "going on from step 4" in done.stdout
    plain = new_model(Shape(32, 2, 2, 1, 64), 128, seed=1)
    train(
        plain, zero_training.stream, zero_training.settings(accumulation=4), tmp_path / "1", seed=1
    )
    weights = torch.load(tmp_path / "zero" / "final.pt", weights_only=True)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-5)
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("zero", "1")]
    assert [row["step"] for row in logs[0]] == [2, 4, 6, 8]
    for ours, theirs in zip(*logs, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert (ours["tokens"], ours["accuracy"]) == (theirs["tokens"], theirs["accuracy"])
        assert ours["norm"] == pytest.approx(theirs["norm"], rel=1e-3)


@pytest.mark.slow
def test_pitfall_zero3_save_is_empty_without_gathering(tmp_path: Path) -> None:
    """Such a configuration is refused before it trains; and DeepSpeed would really save nothing."""
    pytest.importorskip("deepspeed")
    config = read_configuration("zero3.json")
    del config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"]
    path = tmp_path / "zero3.json"
    path.write_text(json.dumps(config))
    with pytest.raises(BadRecipe, match="the save would be empty") as fault:
        read_configuration(str(path))
    assert "stage3_gather_16bit_weights_on_model_save" in fault.value.hint
    probe = (
        "import sys, json, deepspeed; from evalsuite_train import zero;"
        f"zero.read_configuration = lambda name: json.loads(open({str(path)!r}).read());"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r}); sys.argv = ['', {str(tmp_path / 'out')!r}, 'any'];"
        "import zero_training; zero_training.main()"
    )
    environment = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", probe],
        env={
            **os.environ,
            **environment,
            "MASTER_PORT": str(free_port()),
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "DeepSpeed wrote no whole weights" in done.stderr
    assert not (tmp_path / "out" / "final.pt").exists()


@pytest.mark.parametrize("stage", [2, 3])
def test_the_shipped_configurations_follow_the_recipe(stage: int) -> None:
    config = read_configuration(f"zero{stage}.json")
    assert config["zero_optimization"]["stage"] == stage
    for name in ("bf16", "fp16"):
        assert config[name] == {"enabled": "auto"}
    assert config["gradient_clipping"] == "auto"


def test_weights_with_an_empty_tensor_are_refused(tmp_path: Path) -> None:
    model = new_model(Shape(32, 2, 2, 1, 64), 128, seed=1)
    saved = {f"model_.{k}": v for k, v in model.state_dict().items()}
    saved["model_.model.norm.weight"] = torch.empty(0)
    torch.save(saved, tmp_path / "weights.bin")
    with pytest.raises(TrainError, match=r"weights\.bin: model\.norm\.weight is empty"):
        fill(model, tmp_path / "weights.bin")


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "not a DeepSpeed"), ("[]", "not a DeepSpeed"), ('{"zero_optimization": {}}', "'stage'")],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "zero.json").write_text(content)
    with pytest.raises(BadRecipe, match=message):
        read_configuration(str(tmp_path / "zero.json"))
    with pytest.raises(BadRecipe, match="no DeepSpeed configuration 'zero4"):
        read_configuration("zero4.json")


def test_zero_in_a_single_process_says_how_to_start_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("deepspeed")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    model = new_model(Shape(32, 2, 2, 1, 64), 128, seed=1)
    with pytest.raises(TrainError, match="torchrun"):
        train(
            model, zero_training.stream, zero_training.settings(zero="zero2.json"), tmp_path, seed=1
        )
