"""Opening a checkpoint: what is refused, and what its fingerprint covers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest

from evalsuite.checkpoint import CARD, Card, fingerprint, open_checkpoint, read_card
from evalsuite.errors import BadCheckpoint


@pytest.fixture
def folder(checkpoint_path, tmp_path):
    return shutil.copytree(checkpoint_path, tmp_path / "copy")


def test_a_folder_opens(checkpoint_path):
    checkpoint = open_checkpoint(str(checkpoint_path))
    assert checkpoint.path == checkpoint_path
    assert checkpoint.name == "tiny"
    assert checkpoint.context == 256
    assert checkpoint.card == Card()
    assert checkpoint.config["model_type"] == "llama"


def test_the_card_names_it(folder):
    (folder / CARD).write_text(json.dumps({"name": "demo-sft", "stage": "sft", "step": 30}))
    checkpoint = open_checkpoint(str(folder))
    assert (checkpoint.name, checkpoint.card.stage, checkpoint.card.step) == ("demo-sft", "sft", 30)


@pytest.mark.parametrize("content", ["{", "[]", '{"stge": "sft"}', '{"step": "x"}'])
def test_a_malformed_card_is_refused(folder, content):
    (folder / CARD).write_text(content)
    with pytest.raises(BadCheckpoint, match="known keys: name, family, stage"):
        read_card(folder)


def test_the_fingerprint_is_one_of_names_and_contents(folder):
    files = sorted(f for f in folder.iterdir())
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in files]
    assert fingerprint(folder) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_fingerprint_moves_with_whatever_changes_answers(folder, other_checkpoint_path):
    before = fingerprint(folder)
    seen = {before, fingerprint(other_checkpoint_path)}
    for name in (
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.model",
        "tokenizer_config.json",
        "chat_template.jinja",
        "adapter_model.safetensors",
        "adapter_config.json",
        "quantize_config.json",
        "modeling_own.py",
    ):
        file = folder / name
        old = file.read_bytes() if file.exists() else None
        file.write_bytes((old or b"") + b" ")
        seen.add(fingerprint(folder))
        file.unlink() if old is None else file.write_bytes(old)
    assert len(seen) == 12
    assert fingerprint(folder) == before


@pytest.mark.parametrize("name", [CARD, "README.md", "trainer_state.json", "training_args.bin"])
def test_the_fingerprint_does_not_move_with_notes(folder, name):
    before = fingerprint(folder)
    (folder / name).write_text("{}")
    assert fingerprint(folder) == before


def test_the_path_is_no_part_of_it(checkpoint_path, folder):
    opened = [open_checkpoint(str(path)) for path in (checkpoint_path, folder)]
    assert opened[0].fingerprint == opened[1].fingerprint
    assert opened[0].name != opened[1].name


def test_a_wrong_path_gets_the_nearest(checkpoint_path):
    with pytest.raises(BadCheckpoint, match=r"did you mean .*tiny"):
        open_checkpoint(str(checkpoint_path.parent / "tinny"))
    with pytest.raises(BadCheckpoint, match="no such checkpoint"):
        open_checkpoint("./no-such/folder")


@pytest.mark.parametrize(
    ("remove", "match"), [("config.json", "no config.json"), ("model.safetensors", "no weights")]
)
def test_what_is_missing_is_named(folder, remove, match):
    (folder / remove).unlink()
    with pytest.raises(BadCheckpoint, match=match):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(("content", "match"), [("{", "not JSON"), ("[]", "not a JSON object")])
def test_a_malformed_configuration_is_refused(folder, content, match):
    (folder / "config.json").write_text(content)
    with pytest.raises(BadCheckpoint, match=match):
        open_checkpoint(str(folder))


def test_a_file_is_not_a_checkpoint(checkpoint_path):
    with pytest.raises(BadCheckpoint, match="not a folder"):
        open_checkpoint(str(checkpoint_path / "config.json"))


def test_remote_code_needs_consent(folder):
    file = folder / "config.json"
    config = json.loads(file.read_text()) | {"auto_map": {"AutoModelForCausalLM": "own.Model"}}
    file.write_text(json.dumps(config))
    with pytest.raises(BadCheckpoint, match="trust-remote-code"):
        open_checkpoint(str(folder))
    assert open_checkpoint(str(folder), trust_remote_code=True).config == config


@pytest.mark.parametrize("name", ["sub/model.safetensors", "../other/model.safetensors"])
def test_weights_outside_the_folder_are_refused(folder, name):
    """The fingerprint would not see them, and new weights would meet old answers."""
    index = {"weight_map": {"model.embed_tokens.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadCheckpoint, match="outside its folder"):
        open_checkpoint(str(folder))


def test_an_adapter_beside_the_weights_is_refused(folder):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(BadCheckpoint, match="merge it"):
        open_checkpoint(str(folder))


def test_attention_from_the_hub_needs_consent(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_attn_implementation": "a/kernel"}))
    with pytest.raises(BadCheckpoint, match="--trust-remote-code"):
        open_checkpoint(str(folder))


def test_links_to_nowhere_and_folders_are_no_files(folder):
    (folder / "loop.json").symlink_to(folder / "loop.json")
    (folder / "nowhere.txt").symlink_to(folder / "gone")
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.txt")
    assert open_checkpoint(str(folder)).fingerprint
