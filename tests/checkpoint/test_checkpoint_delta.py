"""Delta weights: exact both ways, in bounded memory, and never taken for a model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import forms_factory
import pytest
import torch
from forms_factory import logits, nudged, same_bits, state, write_model
from safetensors.torch import load_file, save_file

from evalsuite.checkpoint import open_checkpoint
from evalsuite.checkpoint.delta import apply_delta, make_delta
from evalsuite.checkpoint.manifest import MANIFEST, read_manifest
from evalsuite.errors import BadCheckpoint, BadOption

base, target, own_home = forms_factory.base, forms_factory.target, forms_factory.own_home
pytestmark = pytest.mark.usefixtures("own_home")


def test_row_delta_weights(base, target, tmp_path):
    """Merged weights have the recorded sha256; the evaluator merges what is a delta."""
    manifest = make_delta(base, target, tmp_path / "delta")
    apply_delta(base, tmp_path / "delta", tmp_path / "merged")
    merged = state(tmp_path / "merged")
    assert same_bits(merged, state(target))
    for name, tensor in merged.items():
        head = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}\n".encode()
        content = hashlib.sha256(head + tensor.numpy().tobytes()).hexdigest()
        assert manifest.tensors[name].sha256 == content
    lines = "".join(f"{t.sha256}  {n}\n" for n, t in sorted(manifest.tensors.items()))
    assert manifest.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert torch.equal(logits(tmp_path / "merged"), logits(target))
    opened = open_checkpoint(str(tmp_path / "delta"), base=str(base))
    assert opened.kind == "delta"
    assert same_bits(state(opened.path), state(target))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("scale", [1e-4, 1e-1])
def test_any_dtype_comes_back_bit_for_bit(tmp_path, dtype, scale):
    base = write_model(tmp_path / "base", seed=3, dtype=dtype)
    target = nudged(base, tmp_path / "target", scale=scale)
    manifest = make_delta(base, target, tmp_path / "delta")
    apply_delta(base, tmp_path / "delta", tmp_path / "merged")
    assert same_bits(state(tmp_path / "merged"), state(target))
    modes = {tensor.mode for tensor in manifest.tensors.values()}
    assert "difference" in modes
    assert "whole" not in modes, "nobody can read a tensor without the base"


def test_odd_numbers_and_whole_numbers_come_back(tmp_path):
    odd = torch.tensor([0.0, -0.0, float("nan"), float("inf"), -float("inf"), 6e-8, 65504.0])
    tensors = {"odd": odd.half(), "odd32": odd, "ids": torch.arange(9), "scalar": torch.tensor(2.5)}
    other = {k: v.roll(3) if v.ndim else v + 1 for k, v in tensors.items()} | {
        "empty": torch.zeros(0, 4)
    }
    for name, content in (("base", tensors), ("target", other)):
        (tmp_path / name).mkdir()
        save_file(content, tmp_path / name / "model.safetensors")
    make_delta(tmp_path / "base", tmp_path / "target", tmp_path / "delta")
    apply_delta(tmp_path / "base", tmp_path / "delta", tmp_path / "merged")
    assert same_bits(state(tmp_path / "merged"), other)


def test_pitfall_fp16_delta_is_not_bit_exact(base, target, tmp_path):
    """A float16 difference, added in float16, is off in some tensor; ours never is."""
    one, other = state(base), state(target)
    rounded = {n: one[n] + (other[n] - one[n]) for n in one}
    assert any(not torch.equal(rounded[n], other[n]) for n in one)
    manifest = make_delta(base, target, tmp_path / "delta")
    stored = state(tmp_path / "delta")
    wide = [n for n in stored if stored[n].dtype == torch.float32]
    assert wide
    assert all(manifest.tensors[n].precision == "float32" for n in wide)
    apply_delta(base, tmp_path / "delta", tmp_path / "merged")
    assert same_bits(state(tmp_path / "merged"), other)


def test_pitfall_shape_mismatch_is_replaced(base, tmp_path):
    """A grown vocabulary: rows are taken from the delta, never added to the base's."""
    target = write_model(tmp_path / "grown", seed=12, dtype="float16", vocab_size=512)
    manifest = make_delta(base, target, tmp_path / "delta")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert manifest.tensors[name].mode == "whole"
        assert torch.equal(state(tmp_path / "delta")[name], state(target)[name])
    apply_delta(base, tmp_path / "delta", tmp_path / "merged")
    assert torch.equal(logits(tmp_path / "merged"), logits(target))
    publish(base, target, tmp_path / "published")
    apply_delta(base, tmp_path / "published", tmp_path / "ziya")
    found = state(tmp_path / "ziya")["model.embed_tokens.weight"]
    assert torch.equal(found, state(target)["model.embed_tokens.weight"])


def publish(base, target, folder):
    """A delta as in 2023: float16 differences in a folder that looks like a model."""
    shutil.copytree(target, folder)
    one = state(base)
    delta = {n: t - one[n] if one[n].shape == t.shape else t for n, t in state(target).items()}
    save_file(delta, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_pitfall_raw_delta_is_refused(base, target, tmp_path):
    published = publish(base, target, tmp_path / "published")
    with pytest.raises(BadCheckpoint, match=r"delta weights.*apply-delta BASE"):
        open_checkpoint(str(published))
    make_delta(base, target, tmp_path / "delta")
    file = tmp_path / "delta" / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base": "../elsewhere"}))
    with pytest.raises(BadCheckpoint, match=r"delta weights.*elsewhere.*--base"):
        open_checkpoint(str(tmp_path / "delta"))


def test_a_pickled_raw_delta_is_refused_too(base, target, tmp_path):
    published = publish(base, target, tmp_path / "published")
    torch.save(load_file(published / "model.safetensors"), published / "pytorch_model.bin")
    (published / "model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match="delta weights"):
        open_checkpoint(str(published))


def test_a_published_delta_is_added(base, target, tmp_path):
    published = publish(base, target, tmp_path / "published")
    apply_delta(base, published, tmp_path / "merged")
    one, delta = state(base), state(published)
    in_float16 = {n: one[n] + delta[n] for n in one}  # as the published scripts do
    assert same_bits(state(tmp_path / "merged"), in_float16)
    assert open_checkpoint(str(tmp_path / "merged")).kind == "huggingface"


def test_a_model_is_not_taken_for_a_delta(base, target, tmp_path):
    """Base and delta the wrong way round would add two models."""
    published = publish(base, target, tmp_path / "published")
    with pytest.raises(BadCheckpoint, match="a model, not a delta"):
        apply_delta(published, base, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("model_type", ["gemma", "nemotron"])
def test_norms_of_one_plus_weight_are_no_delta(tmp_path, model_type):
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    settings |= {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 64}
    config = AutoConfig.for_model(model_type, **settings, head_dim=16)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.zero_()
    model.save_pretrained(tmp_path / "model")
    assert open_checkpoint(str(tmp_path / "model")).kind == "huggingface"


def test_sharding_does_not_matter(base, target, tmp_path):
    """Other shards, safetensors or pickles: the same hashes, the same merged bits."""
    plain = make_delta(base, target, tmp_path / "delta")
    pieces = write_model(tmp_path / "pieces", seed=11, dtype="float16", shard="20KB")
    assert len(list(pieces.glob("*.safetensors"))) > 2
    pickled = shutil.copytree(pieces, tmp_path / "pickled")
    weight_map = {}
    for file in sorted(pickled.glob("*.safetensors")):
        tensors = load_file(file)
        torch.save(tensors, pickled / f"pytorch_{file.stem}.bin")
        weight_map |= dict.fromkeys(tensors, f"pytorch_{file.stem}.bin")
        file.unlink()
    (pickled / "model.safetensors.index.json").unlink()
    index = pickled / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    for source in (pieces, pickled):
        out = tmp_path / f"delta-{source.name}"
        other = make_delta(source, target, out, shard_bytes=20_000)
        assert (other.base_sha256, other.sha256) == (plain.base_sha256, plain.sha256)
        assert len(list(out.glob("model-*.safetensors"))) > 2
        apply_delta(base, out, tmp_path / f"merged-{source.name}", shard_bytes=30_000)
        assert same_bits(state(tmp_path / f"merged-{source.name}"), state(target))
        assert torch.equal(logits(tmp_path / f"merged-{source.name}"), logits(target))


def test_a_wrong_base_is_named_by_its_sha256(base, target, other_checkpoint_path, tmp_path):
    manifest = make_delta(base, target, tmp_path / "delta")
    first = next(n for n, t in manifest.tensors.items() if t.base_sha256)
    wrong = nudged(base, tmp_path / "wrong", seed=1)
    with pytest.raises(BadCheckpoint, match="wrong base") as caught:
        apply_delta(wrong, tmp_path / "delta", tmp_path / "out")
    assert first in caught.value.what
    assert manifest.tensors[first].base_sha256 in caught.value.what
    with pytest.raises(BadCheckpoint, match="wrong base"):
        open_checkpoint(str(tmp_path / "delta"), base=str(other_checkpoint_path))
    assert not (tmp_path / "out").exists()
    assert [p for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_what_is_unchanged_is_not_stored(base, tmp_path):
    manifest = make_delta(base, base, tmp_path / "delta")
    assert {t.mode for t in manifest.tensors.values()} == {"unchanged"}
    assert read_manifest(tmp_path / "delta") == manifest
    apply_delta(base, tmp_path / "delta", tmp_path / "merged")
    assert same_bits(state(tmp_path / "merged"), state(base))


@pytest.mark.parametrize("keep", [0, 7, 5000])
def test_truncated_files_are_named(base, target, tmp_path, keep):
    make_delta(base, target, tmp_path / "delta")
    file = tmp_path / "delta" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BadCheckpoint) as caught:
        apply_delta(base, tmp_path / "delta", tmp_path / "out")
    assert caught.value.where == str(file)
    assert not (tmp_path / "out").exists()


def test_damage_inside_is_noticed(base, target, tmp_path):
    make_delta(base, target, tmp_path / "delta")
    file = tmp_path / "delta" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 64
    file.write_bytes(content)
    with pytest.raises(BadCheckpoint, match="damaged"):
        apply_delta(base, tmp_path / "delta", tmp_path / "out")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"format": 2}', '{"format": 1, "base": "", "base_sha256": "", "sha256":'
     ' "", "tensors": {"x": {"mode": "difference", "dtype": "nn", "shape": [], "sha256": ""}}}'],
)  # fmt: skip
def test_a_malformed_manifest_is_refused(base, target, tmp_path, content):
    make_delta(base, target, tmp_path / "delta")
    (tmp_path / "delta" / MANIFEST).write_text(content)
    with pytest.raises(BadCheckpoint) as caught:
        open_checkpoint(str(tmp_path / "delta"), base=str(base))
    assert MANIFEST in caught.value.where


@pytest.mark.parametrize("name", ["../../outside.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_hostile_file_names_are_refused(base, target, tmp_path, name):
    make_delta(base, target, tmp_path / "delta")
    (tmp_path / "delta" / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": name}}
    (tmp_path / "delta" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadCheckpoint, match="outside its folder"):
        apply_delta(base, tmp_path / "delta", tmp_path / "out")


def test_what_stands_is_not_overwritten(base, target, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(BadOption, match="something already"):
        make_delta(base, target, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["precious"]


GROWTH = """
import sys
from pathlib import Path
from evalsuite.checkpoint.delta import apply_delta, make_delta
folder, out = map(Path, sys.argv[1:])
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
def both_ways(size):
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    make_delta(folder / size / "base", folder / size / "target", out / size / "delta")
    apply_delta(folder / size / "base", out / size / "delta", out / size / "merged")
    return peak()
first = both_ways("small")
print(both_ways("big") - first)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Tensors of 10 MB: ``big`` models of 200 MB in shards of 40 and 50 MB, ``small`` ones of 40."""
    folder = tmp_path_factory.mktemp("large")
    for size, count in (("small", 4), ("big", 20)):
        for name, per_shard, change in (("base", 4, 0), ("target", 5, 1)):
            path = folder / size / name
            path.mkdir(parents=True)
            weight_map = {}
            for first in range(0, count, per_shard):
                file = f"model-{first}.safetensors"
                tensors = {
                    f"w{n}": torch.full((2560, 1024), (n + 1) / 64) + change / 128
                    for n in range(first, min(first + per_shard, count))
                }
                save_file(tensors, path / file)
                weight_map |= dict.fromkeys(tensors, file)
            index = {"weight_map": weight_map}
            (path / "model.safetensors.index.json").write_text(json.dumps(index))
    yield folder
    shutil.rmtree(folder)


def test_memory_does_not_grow_with_the_model(large, tmp_path):
    """Five times the weights, 160 MB more, and the peak is higher by less than one tensor."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(large), str(tmp_path)],
        # glibc gives large blocks back at once, so the peak is what is in use, not what it keeps
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 10
    assert same_bits(state(tmp_path / "big" / "merged"), state(large / "big" / "target"))


APPLY = """
import sys
from pathlib import Path
from evalsuite.checkpoint.delta import apply_delta
print("ready", flush=True)
apply_delta(*map(Path, sys.argv[1:]))
"""


def test_killed_while_applying_leaves_nothing_half_written(large, tmp_path):
    base, target, delta = large / "small" / "base", large / "small" / "target", tmp_path / "delta"
    out = tmp_path / "out"
    make_delta(base, target, delta)
    process = subprocess.Popen(
        [sys.executable, "-c", APPLY, str(base), str(delta), str(out)],
        stdout=subprocess.PIPE,
    )
    partial = tmp_path / ".out.partial"
    deadline = time.monotonic() + 60
    while not any(partial.glob("*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert partial.exists(), "it was killed in the middle"
    assert not out.exists()
    apply_delta(base, delta, out)
    assert same_bits(state(out), state(target))
    assert not partial.exists()
