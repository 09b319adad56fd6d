"""ZeRO folders that DeepSpeed itself wrote, in two processes, against its own reader."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import forms_factory
import pytest
import torch
from checkpoint_factory import write_tokenizer
from forms_factory import logits, state

from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.errors import BadCheckpoint

own_home = forms_factory.own_home
pytestmark = pytest.mark.usefixtures("own_home")

TRUTH = """
import sys, torch
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
for folder in sys.argv[1:]:
    state = get_fp32_state_dict_from_zero_checkpoint(folder)
    torch.save({n: t.detach().clone() for n, t in state.items()}, folder + "/truth.pt")
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of stage 1 (tied embeddings), 2 and 3, each with the truth in ``truth.pt``."""
    pytest.importorskip("deepspeed")
    out = tmp_path_factory.mktemp("zero")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    place |= {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    script = Path(__file__).with_name("zero_training.py")
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(out)],
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=540)[0] for process in processes]
    assert [p.returncode for p in processes] == [0, 0], said[0][-3000:]
    folders = [out / f"stage{stage}" for stage in (1, 2, 3)]
    read = subprocess.run(
        [sys.executable, "-c", TRUTH, *map(str, folders)],
        env=os.environ | place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    for folder in folders:
        write_tokenizer(folder)
    return out


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_row_inference_forms_zero(trained, tmp_path, stage):
    """The weights are, bit for bit, what deepspeed's own reader gathers; the engine loads them."""
    folder = trained / f"stage{stage}"
    opened = open_checkpoint(str(folder))
    assert (opened.kind, opened.name) == ("zero", f"stage{stage}-global_step2")
    truth = torch.load(folder / "truth.pt", weights_only=True)
    found = state(opened.path)
    frozen = "model.layers.0.mlp.up_proj.weight"
    if stage == 1:  # which deepspeed's reader forgets
        assert frozen not in truth
        saved = folder / "global_step2" / "mp_rank_00_model_states.pt"
        truth[frozen] = torch.load(saved, weights_only=True)["module"][frozen]
    assert found.keys() == truth.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor.float(), truth[name].float()), name
    assert {tensor.dtype for name, tensor in found.items() if name != frozen} == {torch.float32}
    plain = tmp_path / "plain"
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).float()
    model.load_state_dict({n: t.float() for n, t in truth.items()})
    model.save_pretrained(plain)
    assert torch.equal(logits(opened.path), logits(plain))
    TransformersEngine(opened).close()
    step = open_checkpoint(str(folder / "global_step2"))
    assert (step.path, step.fingerprint) == (opened.path, opened.fingerprint)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pitfall_zero3_save_is_empty(trained, tmp_path):
    """What stage 3 leaves in pytorch_model.bin without gathering is names without numbers."""
    for name in ("bin", "safetensors"):
        folder = shutil.copytree(trained / "empty", tmp_path / name)
        if name == "safetensors":
            from safetensors.torch import save_file

            weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
            assert (0,) in {tuple(t.shape) for t in weights.values()}
            save_file(weights, folder / "model.safetensors")
            (folder / "pytorch_model.bin").unlink()
        with pytest.raises(BadCheckpoint, match="stage3_gather_16bit_weights_on_model_save"):
            open_checkpoint(str(folder))
    shutil.copytree(trained / "stage3" / "global_step2", folder / "global_step2")
    with pytest.raises(BadCheckpoint, match=r"give \S*global_step2"):
        open_checkpoint(str(folder))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", [2, 3])
def test_a_lost_or_damaged_file_is_named(trained, tmp_path, stage):
    folder = shutil.copytree(trained / f"stage{stage}", tmp_path / "copy")
    before = open_checkpoint(str(folder)).fingerprint
    step = folder / "global_step2"
    for file in sorted(step.glob("*_states.pt")):
        content = file.read_bytes()
        for damaged in (content[: len(content) // 2], b"", b"GGUF"):
            file.write_bytes(damaged)
            with pytest.raises(BadCheckpoint) as caught:
                open_checkpoint(str(folder))
            assert caught.value.where == str(file)
        file.unlink()
        with pytest.raises(BadCheckpoint, match=r"missing|processes'"):
            open_checkpoint(str(folder))
        file.write_bytes(content)
    assert open_checkpoint(str(folder)).fingerprint == before


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def write_step(folder, **changes):
    """A stage-2 step of one process, by hand: enough to be recognised."""
    step = folder / "global_step5"
    step.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    shapes = [{"a": torch.Size([2, 3]), "b": torch.Size([4])}]
    model = {"module": {}, "buffer_names": [], "param_shapes": shapes, "shared_params": {}}
    flat = torch.arange(10.0)
    optimiser = {"zero_stage": 2, "partition_count": [1], "single_partition_of_fp32_groups": [flat]}
    torch.save(model, step / "mp_rank_00_model_states.pt")
    torch.save(
        {"optimizer_state_dict": optimiser | changes},
        step / "zero_pp_rank_0_mp_rank_00_optim_states.pt",
    )
    return folder


def test_a_step_without_latest(tmp_path):
    opened = open_checkpoint(str(write_step(tmp_path / "run")))
    found = state(opened.path)
    assert torch.equal(found["a"], torch.arange(6.0).reshape(2, 3))
    assert torch.equal(found["b"], torch.arange(6.0, 10.0))


def test_pickles_are_not_executed(tmp_path, capfd):
    with pytest.raises(BadCheckpoint, match=r"would run .*print"):
        open_checkpoint(str(write_step(tmp_path / "run", loss_scaler=Trap())))
    assert "executed" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("tag", ["../../etc", "/etc", "", "global_step7", "a\nb"])
def test_latest_names_a_step_that_is_there(tmp_path, tag):
    folder = write_step(tmp_path / "run")
    (folder / "latest").write_text(tag)
    with pytest.raises(BadCheckpoint, match="names no step"):
        open_checkpoint(str(folder))


def test_several_steps_need_a_name(tmp_path):
    folder = write_step(tmp_path / "run")
    shutil.copytree(folder / "global_step5", folder / "global_step9")
    with pytest.raises(BadCheckpoint, match="global_step5, global_step9"):
        open_checkpoint(str(folder))
    (folder / "latest").write_text("global_step9\n")
    assert open_checkpoint(str(folder)).name == "run-global_step9"


def test_too_few_numbers(tmp_path):
    folder = write_step(tmp_path / "run", single_partition_of_fp32_groups=[torch.zeros(5)])
    with pytest.raises(BadCheckpoint, match="not a whole file"):
        open_checkpoint(str(folder))


def test_experts_and_adapters_are_refused(tmp_path):
    folder = write_step(tmp_path / "run")
    step = folder / "global_step5"
    optimiser = step / "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    shutil.copy(optimiser, step / "zero_pp_rank_0_mp_rank_01_optim_states.pt")
    with pytest.raises(BadCheckpoint, match="tensor parallel"):
        open_checkpoint(str(folder))
