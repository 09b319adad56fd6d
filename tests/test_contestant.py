"""Who takes the test: checked and fingerprinted before anything is computed."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from evalsuite.checkpoint import fingerprint
from evalsuite.contestant import EngineOptions, find_contestants
from evalsuite.engines.replay import ReplayEngine
from evalsuite.errors import BadCheckpoint, BadOption, DataMissing, UnknownName

AUTO = EngineOptions()


def test_a_checkpoint_folder(checkpoint_path):
    [found] = find_contestants([str(checkpoint_path)], AUTO)
    assert found.part.name == "tiny"
    assert found.part.source == str(checkpoint_path)
    assert found.part.fingerprint == fingerprint(checkpoint_path)
    assert found.part.chat_template == "none"
    assert found.engine == {"name": "transformers", "dtype": "auto"}
    engine = found.open_engine()
    try:
        assert engine.name == "transformers"
        weights = checkpoint_path / "model.safetensors"
        assert engine.parameters is not None
        assert engine.parameters * 4 <= weights.stat().st_size < engine.parameters * 4 + 10_000
    finally:
        engine.close()


def test_the_card_names_it_and_the_option_chooses_its_template(checkpoint_path, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(checkpoint_path, folder)
    card = {"name": "zy-1", "family": "zy", "stage": "sft", "step": 7, "chat_template": "ziya"}
    (folder / "evalsuite.json").write_text(json.dumps(card))
    [found] = find_contestants([str(folder)], AUTO)
    part = found.part
    assert (part.name, part.family, part.stage, part.step) == ("zy-1", "zy", "sft", 7)
    assert part.chat_template == "ziya"
    assert part.fingerprint == fingerprint(checkpoint_path), "a card changes no answer"
    for wanted in ("none", "yayi"):
        [found] = find_contestants([str(folder)], EngineOptions(chat_template=wanted))
        assert found.part.chat_template == wanted


def test_other_weights_have_another_fingerprint(checkpoint_path, other_checkpoint_path):
    one, other = find_contestants([str(checkpoint_path), str(other_checkpoint_path)], AUTO)
    assert one.part.fingerprint != other.part.fingerprint


def test_a_model_named_twice_runs_once(checkpoint_path):
    assert len(find_contestants([str(checkpoint_path)] * 2, AUTO)) == 1


def test_nothing_is_loaded_where_one_of_the_models_is_wrong(checkpoint_path):
    with pytest.raises(BadCheckpoint, match="did you mean"):
        find_contestants([str(checkpoint_path), str(checkpoint_path.with_name("tni"))], AUTO)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (EngineOptions(engine="transformer"), UnknownName),
        (EngineOptions(engine="openai"), BadOption),
        (EngineOptions(engine_options={"block_size": "32"}), BadOption),
        (EngineOptions(engine="vllm", engine_options={"model": "x"}), BadOption),
        (EngineOptions(dtype="float23"), BadOption),
        (EngineOptions(chat_template="zya"), UnknownName),
    ],
)
def test_wrong_options_are_found_before_the_model_is_opened(checkpoint_path, options, fault):
    with pytest.raises(fault):
        find_contestants([str(checkpoint_path)], options)


@pytest.fixture
def answers(tmp_path):
    file = tmp_path / "model-x.jsonl"
    file.write_text('{"id": "a", "output": "1"}\n')
    return file


def test_a_file_of_answers(answers):
    [found] = find_contestants([f"replay:{answers}"], AUTO)
    assert found.part.name == "model-x"
    assert found.part.source == f"replay:{answers}"
    assert found.part.fingerprint == hashlib.sha256(answers.read_bytes()).hexdigest()
    assert found.engine == {"name": "replay"}
    assert isinstance(found.open_engine(), ReplayEngine)


def test_a_name_for_a_file_of_answers(answers):
    options = EngineOptions(engine=f"replay:{answers}")
    [found] = find_contestants(["models/ziya-13b"], options)
    assert (found.part.name, found.part.source) == ("ziya-13b", f"replay:{answers}")
    with pytest.raises(BadOption, match="--model replay:FILE"):
        find_contestants(["a", "b"], options)


def test_a_checkpoint_beside_a_file_of_answers(answers, checkpoint_path):
    found = find_contestants([f"replay:{answers}", str(checkpoint_path)], AUTO)
    assert [c.engine["name"] for c in found] == ["replay", "transformers"]


def test_the_users_home_is_understood(answers, monkeypatch):
    """A shell leaves the ``~`` of ``replay:~/file`` alone."""
    monkeypatch.setenv("HOME", str(answers.parent))
    [found] = find_contestants([f"replay:~/{answers.name}"], AUTO)
    assert found.part.fingerprint == hashlib.sha256(answers.read_bytes()).hexdigest()
    options = EngineOptions(engine=f"replay:~/{answers.name}")
    assert isinstance(find_contestants(["x"], options)[0].open_engine(), ReplayEngine)


@pytest.mark.parametrize("file", ["nowhere.jsonl", "", "."])
def test_no_such_file_of_answers(tmp_path, file):
    with pytest.raises(DataMissing):
        find_contestants([f"replay:{tmp_path / file}"], AUTO)
