"""TencentPretrain's ``.bin``: both ways, against a forward pass written here after its own code."""

from __future__ import annotations

import json
import pickle
import shutil

import forms_factory
import pytest
import torch
from forms_factory import IDS, logits, same_bits, state, write_model

from evalsuite.checkpoint import open_checkpoint
from evalsuite.checkpoint.conversion import convert
from evalsuite.checkpoint.tencentpretrain import WEIGHTS
from evalsuite.errors import BadCheckpoint

own_home = forms_factory.own_home
pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture(scope="module", params=[2, 4], ids=["grouped", "full"])
def plain(request, tmp_path_factory):
    """Four heads, and two or four groups of keys; head size 8; an epsilon that is not the default."""
    folder = tmp_path_factory.mktemp("plain") / "plain"
    return write_model(folder, seed=21, num_key_value_heads=request.param, rms_norm_eps=1e-3)


def interleaved_forward(folder):
    """Logits of a TencentPretrain LLaMA: rotary embeddings as complex products of neighbours."""
    weights = torch.load(folder / WEIGHTS, weights_only=True)
    config = json.loads((folder / "config.json").read_text())
    heads = config["heads_num"]
    groups = config.get("local_kv_head_num", heads)
    ids = torch.tensor(IDS)
    size = config["hidden_size"] // heads
    frequencies = 10000.0 ** (-torch.arange(0, size, 2).float() / size)
    angles = torch.outer(torch.arange(ids.shape[1]).float(), frequencies)
    turn = torch.polar(torch.ones_like(angles), angles)[None, :, None, :]

    def norm(x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config["layernorm_eps"]) * weight

    def rotated(x):
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turn).flatten(3)

    x = weights["embedding.word.embedding.weight"][ids]
    batch, length = ids.shape
    mask = torch.full((length, length), float("-inf")).triu(1)
    for number in range(config["layers_num"]):

        def weight(name, number=number):
            return weights[f"encoder.transformer.{number}.{name}.weight"]

        h = norm(x, weight("layer_norm_1"))
        q = (h @ weight("self_attn.linear_layers.0").T).view(batch, length, heads, size)
        k = (h @ weight("self_attn.linear_layers.1").T).view(batch, length, groups, size)
        v = (h @ weight("self_attn.linear_layers.2").T).view(batch, length, groups, size)
        q, k = rotated(q), rotated(k)
        k, v = (t.repeat_interleave(heads // groups, dim=2) for t in (k, v))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / size**0.5 + mask
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)
        x = x + mixed @ weight("self_attn.final_linear").T
        h = norm(x, weight("layer_norm_2"))
        gate = torch.nn.functional.silu(h @ weight("feed_forward.linear_gate").T)
        x = x + (gate * (h @ weight("feed_forward.linear_1").T)) @ weight("feed_forward.linear_2").T
    return (
        norm(x, weights["encoder.layer_norm.weight"]) @ weights["target.lm.output_layer.weight"].T
    )


def test_row_format_conversion(plain, tmp_path):
    """Logits equal both ways; the rotary layout is permuted; there and back is bit for bit."""
    convert(str(plain), tmp_path / "tp", to="tencentpretrain")
    assert torch.allclose(interleaved_forward(tmp_path / "tp"), logits(plain), rtol=0, atol=2e-4)
    ours = torch.load(tmp_path / "tp" / WEIGHTS, weights_only=True)
    name = "encoder.transformer.0.self_attn.linear_layers.0.weight"
    assert not torch.equal(ours[name], state(plain)["model.layers.0.self_attn.q_proj.weight"])
    convert(str(tmp_path / "tp"), tmp_path / "back")
    assert same_bits(state(tmp_path / "back"), state(plain))
    assert torch.equal(logits(tmp_path / "back"), logits(plain))


def test_the_permutation_matters(plain, tmp_path):
    """The test above can fail: without the permutation the logits are far off."""
    convert(str(plain), tmp_path / "tp", to="tencentpretrain")
    weights = torch.load(tmp_path / "tp" / WEIGHTS, weights_only=True)
    for number in range(2):
        for part, name in ((0, "q"), (1, "k")):
            weights[f"encoder.transformer.{number}.self_attn.linear_layers.{part}.weight"] = state(
                plain
            )[f"model.layers.{number}.self_attn.{name}_proj.weight"]
    torch.save(weights, tmp_path / "tp" / WEIGHTS)
    off = (interleaved_forward(tmp_path / "tp") - logits(plain)).abs().max()
    assert off > 1e-2


def test_row_inference_forms_tencentpretrain(plain, tmp_path):
    """A ``.bin`` is opened by its content, as a file or a folder, and merged into the cache."""
    convert(str(plain), tmp_path / "tp", to="tencentpretrain")
    opened = open_checkpoint(str(tmp_path / "tp"))
    assert opened.kind == "tencentpretrain"
    assert torch.equal(logits(opened.path), logits(plain))
    alone = tmp_path / "models"
    alone.mkdir()
    shutil.copy(tmp_path / "tp" / WEIGHTS, alone / "chatllama_7b.bin")
    shutil.copy(tmp_path / "tp" / "config.json", alone / "7b_config.json")
    shutil.copy(tmp_path / "tp" / "tokenizer.model", alone)
    file = open_checkpoint(str(alone / "chatllama_7b.bin"))
    assert (file.kind, file.name) == ("tencentpretrain", "chatllama_7b")
    assert torch.equal(logits(file.path), logits(plain))
    from transformers import AutoTokenizer

    one, other = (AutoTokenizer.from_pretrained(p) for p in (plain, file.path))
    assert one("今天天气很好")["input_ids"] == other("今天天气很好")["input_ids"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"layernorm": "normal"}, "not a LLaMA: layernorm"),
        ({"heads_num": 3}, "rows"),
        ({"heads_num": "many"}, "no number"),
        ({"layers_num": 3}, "transformer.2.* is missing"),
        ({"layers_num": 1}, "belong to no part"),
        ({"feedforward_size": None}, "no number"),
    ],
)
def test_a_configuration_that_does_not_fit(plain, tmp_path, change, match):
    convert(str(plain), tmp_path / "tp", to="tencentpretrain")
    file = tmp_path / "tp" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BadCheckpoint, match=match):
        open_checkpoint(str(tmp_path / "tp"))


def test_no_configuration_is_named(plain, tmp_path):
    convert(str(plain), tmp_path / "tp", to="tencentpretrain")
    (tmp_path / "tp" / "config.json").unlink()
    with pytest.raises(BadCheckpoint, match="no configuration beside it"):
        open_checkpoint(str(tmp_path / "tp"))


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def test_pickles_are_not_executed(plain, tmp_path, capfd):
    convert(str(plain), tmp_path / "tp", to="tencentpretrain")
    torch.save({"embedding.word.embedding.weight": Trap()}, tmp_path / "tp" / WEIGHTS)
    with pytest.raises(BadCheckpoint):
        open_checkpoint(str(tmp_path / "tp"))
    (tmp_path / "tp" / WEIGHTS).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(BadCheckpoint):
        open_checkpoint(str(tmp_path / "tp" / WEIGHTS))
    assert "executed" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_type": "mistral"}, "not a LLaMA"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "base 500000"),
        ({"attention_bias": True}, "biases"),
    ],
)
def test_what_tencentpretrain_computes_otherwise_is_refused(plain, tmp_path, change, match):
    folder = shutil.copytree(plain, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadCheckpoint, match=match):
        convert(str(folder), tmp_path / "tp", to="tencentpretrain")
    assert not (tmp_path / "tp").exists()
