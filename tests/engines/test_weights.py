"""Checkpoints that are not whole are refused, with the file or the weights named."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines.options import ModelOptions
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.errors import BadCheckpoint, EngineUnavailable
from evalsuite.request import Choose, Prompt


@pytest.fixture
def folder(checkpoint_path, tmp_path):
    return shutil.copytree(checkpoint_path, tmp_path / "copy")


def refused(folder, match):
    with pytest.raises(BadCheckpoint, match=match) as caught:
        TransformersEngine(open_checkpoint(str(folder))).ready()
    assert str(folder) in caught.value.where
    return caught.value


def rewrite(folder, change):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def picked(folder):
    engine = TransformersEngine(open_checkpoint(str(folder)))
    [(_, answer)] = engine.answer(engine.prepare(["x"], [Choose(Prompt("今天"), ("A", "B"))]))
    return answer


@pytest.mark.parametrize("keep", [0, 4, 100, 20000])
def test_a_truncated_file_is_named(folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert refused(folder, "not a whole safetensors").where == str(file)


def test_missing_weights_are_not_made_up(folder):
    rewrite(folder, lambda w: {k: v for k, v in w.items() if "layers.1.mlp" not in k})
    fault = refused(folder, "3 weights are missing")
    assert "model.layers.1.mlp.down_proj.weight" in fault.what


def test_a_missing_head_is_not_made_up(folder):
    rewrite(folder, lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"})
    assert "lm_head.weight" in refused(folder, "1 weights are missing").what


def test_another_shape_is_refused(folder):
    rewrite(folder, lambda w: w | {"lm_head.weight": torch.zeros(10, 64)})
    refused(folder, "lm_head.weight|shape")


def test_layers_that_the_configuration_leaves_out_are_refused(folder):
    file = folder / "config.json"
    config = json.loads(file.read_text()) | {"num_hidden_layers": 1}
    config.pop("layer_types", None)
    file.write_text(json.dumps(config))
    assert "layers.1" in refused(folder, "no layer that config.json describes").what


def test_a_value_head_beside_the_model_is_left_alone(folder):
    before = picked(folder)
    rewrite(folder, lambda w: w | {"v_head.summary.weight": torch.zeros(1, 64)})
    assert picked(folder) == before


def test_a_missing_shard_is_named(folder):
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert refused(folder, "missing").where.endswith("model-00002-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text("[]")
    assert refused(folder, "not an index").where.endswith("model.safetensors.index.json")


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def test_pickled_weights_are_read_but_never_executed(folder, capfd):
    before = picked(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert picked(folder) == before
    torch.save(weights | {"lm_head.weight": Trap()}, folder / "pytorch_model.bin")
    refused(folder, "do not load")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    refused(folder, "do not load")
    assert "executed" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("content", ["{", "{}", '{"model": {"type": "BPE"}}', "\0"])
def test_a_tokenizer_that_is_none_is_refused(folder, content):
    (folder / "tokenizer.model").unlink()
    (folder / "tokenizer.json").write_text(content)
    refused(folder, "its tokenizer")


def test_no_tokenizer_is_refused(folder):
    (folder / "tokenizer.model").unlink()
    refused(folder, "its tokenizer")


def test_an_unknown_architecture_is_refused(folder):
    (folder / "config.json").write_text('{"model_type": "no-such-thing"}')
    refused(folder, "do not load")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_here_is_said_to_be_missing(folder):
    with pytest.raises(EngineUnavailable, match="cuda"):
        TransformersEngine(open_checkpoint(str(folder)), ModelOptions(device="cuda"))
