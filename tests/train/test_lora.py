"""LoRA: an adapter beside frozen weights, the same as the weights it is merged into."""

from __future__ import annotations

import json

import pytest
import torch
from evalsuite_train.errors import BadRecipe, TrainError
from evalsuite_train.ladder import run_section
from evalsuite_train.model import load_model
from evalsuite_train.sft.lora import Adapter, add_adapter, write_adapter
from sft_factory import sft_recipe, write_data

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # peft's own imports


@pytest.fixture(scope="module")
def trained(checkpoint_path, tmp_path_factory):
    work = tmp_path_factory.mktemp("lora")
    write_data(work)
    recipe = sft_recipe(
        work,
        checkpoint_path,
        method="lora",
        adapter={"rank": 4},
        stages=2,
        written="fp32",
        learning_rate=1e-2,
    )
    run_section(recipe, "sft")
    return recipe.folder("sft")


def logits(model):
    with torch.inference_mode():
        return model(torch.arange(3, 60)[None]).logits


def test_row_sft_yayi_adapter_equals_merged(trained, checkpoint_path):
    """peft's adapter over the parent and the merged checkpoint give the same logits, and others than the parent's."""
    from peft import PeftModel

    adapter = PeftModel.from_pretrained(
        load_model(checkpoint_path), str(trained / "adapter")
    ).eval()
    merged, parent = load_model(trained / "checkpoint"), load_model(checkpoint_path)
    torch.testing.assert_close(logits(adapter), logits(merged), rtol=1e-4, atol=1e-4)
    assert (logits(merged) - logits(parent)).abs().max() > 0.1


def test_the_adapter_went_through_both_stages(trained):
    matrix = json.loads((trained / "matrix.json").read_text("utf-8"))["stages"]
    for task in ("colour", "count"):
        losses = [row[task]["loss"] for row in matrix.values()]
        assert losses[0] > losses[1] > losses[2]
    config = json.loads((trained / "adapter/adapter_config.json").read_text("utf-8"))
    assert config["r"] == 4
    assert (trained / "adapter/tokenizer.model").is_file()
    assert json.loads((trained / "adapter/evalsuite.json").read_text("utf-8"))["name"] == "toy-sft"


def test_only_the_adapter_learns_and_starts_as_nothing(checkpoint_path):
    before = logits(load_model(checkpoint_path))
    model = add_adapter(load_model(checkpoint_path), Adapter(rank=2), checkpoint_path, 1)
    assert torch.equal(logits(model.eval()), before)
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)


def test_a_layer_that_is_not_there_is_named(checkpoint_path):
    with pytest.raises(BadRecipe, match=r"no linear layer named 'query_key_value'.*\n.*q_proj"):
        add_adapter(
            load_model(checkpoint_path), Adapter(targets=("query_key_value",)), checkpoint_path, 1
        )


def test_an_adapter_that_cannot_be_written_leaves_the_older_one(tmp_path, checkpoint_path):
    model = add_adapter(load_model(checkpoint_path), Adapter(rank=2), checkpoint_path, 1)
    folder = tmp_path / "adapter"
    write_adapter(folder, model, {"said.txt": "first"}, checkpoint_path)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(TrainError, match="adapter: cannot be written: "):
        write_adapter(folder, model, {"said.txt": "second", "no/folder": ""}, checkpoint_path)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    write_adapter(folder, model, {"said.txt": "third"}, checkpoint_path)
    assert (folder / "said.txt").read_text("utf-8") == "third"
    assert [entry.name for entry in tmp_path.iterdir()] == ["adapter"]


def test_without_merging_only_the_adapter_is_written(tmp_path, checkpoint_path):
    write_data(tmp_path, copies=1)
    recipe = sft_recipe(
        tmp_path, checkpoint_path, method="lora", merged=False, steps=1, validation=None
    )
    run_section(recipe, "sft")
    assert (tmp_path / "sft/adapter/adapter_model.safetensors").is_file()
    assert not (tmp_path / "sft/checkpoint").exists()
    with pytest.raises(BadRecipe, match="no checkpoint of 'sft'"):
        recipe.parent("sft")
