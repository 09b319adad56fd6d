"""Every form side by side: detected from its content, merged once, and told about in words."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys

import forms_factory
import pytest
import torch
from forms_factory import logits, same_bits, state

from evalsuite.checkpoint import CARD, fingerprint, open_checkpoint
from evalsuite.checkpoint.delta import make_delta
from evalsuite.checkpoint.merged import merged_home
from evalsuite.errors import BadCheckpoint

base, target, own_home = forms_factory.base, forms_factory.target, forms_factory.own_home
pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def call(own_home):
    def call(*arguments: object):
        return subprocess.run(
            [sys.executable, "-m", "evalsuite", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=os.environ | {"EVALSUITE_HOME": str(own_home), "OMP_NUM_THREADS": "1"},
            timeout=300,
            check=False,
        )

    return call


@pytest.fixture
def delta(base, target, tmp_path):
    make_delta(base, target, tmp_path / "delta")
    return tmp_path / "delta"


def test_a_plain_folder_is_not_merged(base):
    opened = open_checkpoint(str(base), base="/no/such/base")
    assert (opened.kind, opened.path, opened.quantization) == ("huggingface", base, None)
    assert opened.fingerprint == fingerprint(base)
    assert not merged_home().exists()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        (None, None),
    ],
)
def test_quantised_weights_say_how(base, tmp_path, settings, name):
    folder = shutil.copytree(base, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    assert open_checkpoint(str(folder)).quantization == name


def test_the_recorded_base_is_found(base, target, tmp_path):
    """A delta records where its base lies from there, so both can move together."""
    shutil.copytree(base, tmp_path / "base")
    make_delta(tmp_path / "base", target, tmp_path / "delta")
    (tmp_path / "moved").mkdir()
    for name in ("base", "delta"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    opened = open_checkpoint(str(tmp_path / "moved" / "delta"))
    assert same_bits(state(opened.path), state(target))


def test_the_cache_is_used_the_second_time_and_by_another_path(delta, base, tmp_path, monkeypatch):
    first = open_checkpoint(str(delta), base=str(base))
    monkeypatch.setattr("evalsuite.checkpoint.delta.merge_delta", None)
    shutil.copytree(delta, tmp_path / "elsewhere" / "delta")
    shutil.copytree(base, tmp_path / "elsewhere" / "base")
    again = open_checkpoint(
        str(tmp_path / "elsewhere" / "delta"), base=str(tmp_path / "elsewhere" / "base")
    )
    assert (again.fingerprint, again.path) == (first.fingerprint, first.path)


def test_the_fingerprint_changes_with_every_part(delta, base, tmp_path):
    from evalsuite.checkpoint.forms import find_form

    base = shutil.copytree(base, tmp_path / "base")

    def seen():
        return find_form(str(delta), base=str(base)).fingerprint

    kept = {seen()}
    for file in (
        delta / "model.safetensors",
        delta / "config.json",
        delta / "tokenizer.model",
        delta / "chat_template.jinja",
        base / "model.safetensors",
    ):
        old = file.read_bytes() if file.exists() else None
        file.write_bytes((old or b"") + b" ")
        kept.add(seen())
        file.unlink() if old is None else file.write_bytes(old)
    (delta / CARD).write_text('{"stage": "sft"}')
    kept.add(seen())
    assert len(kept) == 6


def test_the_card_goes_along(delta, base):
    (delta / CARD).write_text('{"name": "ziya", "stage": "ppo", "step": 3}')
    opened = open_checkpoint(str(delta), base=str(base))
    assert (opened.name, opened.card.stage) == ("ziya", "ppo")
    assert (opened.path / CARD).is_file()


OPEN = """
import sys
from evalsuite.checkpoint import open_checkpoint
print(open_checkpoint(sys.argv[1], base=sys.argv[2]).path)
"""


def test_several_processes_merge_once(delta, base, target):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(delta), str(base)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    paths = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert [p.returncode for p in processes] == [0, 0, 0]
    assert len(paths) == 1
    assert [p.name for p in merged_home().iterdir()] == [paths.pop().rpartition("/")[2]]
    opened = open_checkpoint(str(delta), base=str(base))
    assert same_bits(state(opened.path), state(target))


def test_a_delta_of_a_delta(delta, base, target, tmp_path):
    further = forms_factory.nudged(target, tmp_path / "further", seed=8)
    make_delta(target, further, tmp_path / "second")
    file = tmp_path / "second" / "delta.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base": "../delta"}))
    recorded = json.loads((delta / "delta.json").read_text()) | {"base": str(base)}
    (delta / "delta.json").write_text(json.dumps(recorded))
    opened = open_checkpoint(str(tmp_path / "second"))
    assert same_bits(state(opened.path), state(further))


def test_gguf_is_recognised(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    file = folder / "ziya-q4_0.gguf"
    file.write_bytes(b"GGUF" + bytes(20))
    for source in (folder, file):
        opened = open_checkpoint(str(source))
        assert (opened.kind, opened.path, opened.name) == ("gguf", file, "ziya-q4_0")
        assert opened.fingerprint == hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadCheckpoint, match=r"several GGUF files.*other\.gguf"):
        open_checkpoint(str(folder))
    file.write_bytes(b"nothing")
    with pytest.raises(BadCheckpoint, match="not a GGUF file"):
        open_checkpoint(str(file))


def test_the_tokenizer_beside_a_gguf_file_is_part_of_its_fingerprint(call, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(20))
    seen = [open_checkpoint(str(file)).fingerprint]

    def after(name, text):
        (tmp_path / name).write_text(text)
        seen.append(open_checkpoint(str(file)).fingerprint)

    after("notes.txt", "no tokenizer")
    after("evalsuite.json", '{"stage": "sft"}')
    assert len(set(seen)) == 1, "neither changes an answer"
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "vocab.json"):
        after(name, "{}")
        after(name, "{ }")
    assert len(set(seen)) == 9
    copy = tmp_path / "elsewhere" / "model.gguf"
    shutil.copytree(tmp_path, copy.parent)
    assert open_checkpoint(str(copy)).fingerprint == seen[-1]
    copy.write_bytes(b"GGUF" + bytes(21))
    assert open_checkpoint(str(copy)).fingerprint not in seen
    done = call("checkpoint", "info", file)
    assert f"tokenizer: {tmp_path}" in done.stdout
    assert seen[-1] in done.stdout


def test_info_says_what_it_is(call, delta, base, tmp_path):
    (delta / CARD).write_text('{"stage": "sft\\u001b[2J", "name": "x\\nkind         forged"}')
    done = call("checkpoint", "info", delta, "--base", base)
    assert done.returncode == 0, done.stderr
    for word in ("delta", "float16", "float32", "base: ", "fingerprint", "sft␛[2J"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith("kind")] == [
        "kind         delta"
    ]
    assert not merged_home().exists(), "looking merges nothing"
    done = call("checkpoint", "info", tmp_path / "nothing")
    assert done.returncode == 2
    assert "E121" in done.stderr


def test_the_commands_one_after_the_other(call, base, target, tmp_path):
    made = call("checkpoint", "make-delta", base, target, tmp_path / "delta")
    assert made.returncode == 0, made.stderr
    assert "difference" in made.stdout
    applied = call("checkpoint", "apply-delta", base, tmp_path / "delta", tmp_path / "merged")
    assert applied.returncode == 0, applied.stderr
    assert torch.equal(logits(tmp_path / "merged"), logits(target))
    again = call("checkpoint", "apply-delta", base, tmp_path / "delta", tmp_path / "merged")
    assert again.returncode == 2
    assert "something already" in again.stderr
    done = call("checkpoint", "convert", tmp_path / "delta", tmp_path / "plain", "--base", base)
    assert done.returncode == 0, done.stderr
    assert same_bits(state(tmp_path / "plain"), state(target))


def test_run_takes_a_delta_with_its_base(call, delta, base, tmp_path):
    """Refused without its base; with it, it is merged and run, and its scores are the model's."""
    (delta / "delta.json").write_text(
        json.dumps(json.loads((delta / "delta.json").read_text()) | {"base": "../gone"})
    )
    command = ["run", "--model", delta, "--tasks", "cmmlu", "--limit", "4", "--out", tmp_path / "o"]
    refused = call(*command)
    assert refused.returncode == 2
    assert "--base" in refused.stderr
    assert not (tmp_path / "o").exists()
    sample = forms_factory.TASKS / "samples" / "cmmlu"
    done = call(*command, "--data", f"cmmlu={sample}", "--base", base, "--num-fewshot", "0")
    assert done.returncode == 0, done.stderr
    [manifest] = (tmp_path / "o").glob("*/run.json")
    part = json.loads(manifest.read_text())["checkpoint"]
    assert part["fingerprint"] == open_checkpoint(str(delta), base=str(base)).fingerprint
