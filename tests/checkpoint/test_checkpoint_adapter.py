"""LoRA adapters: merged once, and then the same model as adapter and base together."""

from __future__ import annotations

import json
import shutil
import warnings

import forms_factory
import pytest
import torch
from forms_factory import IDS, logits, write_model
from safetensors.torch import load_file, save_file

from evalsuite.checkpoint import open_checkpoint
from evalsuite.checkpoint.merged import merged_home
from evalsuite.errors import BadCheckpoint, EngineUnavailable

own_home = forms_factory.own_home
pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("lora") / "plain", seed=31)


def write_adapter(base, folder, *, rows=None, save=("embed_tokens", "lm_head"), **changes):
    """A LoRA adapter by peft itself, with weights that change something."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft
        from transformers import AutoModelForCausalLM
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_pretrained(base)
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    settings |= {"task_type": "CAUSAL_LM", "modules_to_save": list(save) if rows else None}
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**settings | changes))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft says that it saves the embeddings; so it should
        wrapped.save_pretrained(folder)
    with torch.no_grad():
        return folder, wrapped.eval()(torch.tensor(IDS)).logits


@pytest.fixture(scope="module")
def adapter(plain, tmp_path_factory):
    return write_adapter(plain, tmp_path_factory.mktemp("lora") / "adapter")


def test_row_inference_forms_adapter(plain, adapter, tmp_path):
    folder, unmerged = adapter
    opened = open_checkpoint(str(folder))
    assert opened.kind == "adapter"
    assert torch.allclose(logits(opened.path), unmerged, rtol=0, atol=1e-5)
    assert (logits(opened.path) - logits(plain)).abs().max() > 1e-2
    import peft
    from transformers import AutoModelForCausalLM

    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(plain), folder)
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    assert torch.equal(logits(opened.path), logits(tmp_path / "merged"))


def test_grown_embeddings_come_with_their_tokenizer(plain, tmp_path):
    folder, unmerged = write_adapter(plain, tmp_path / "adapter", rows=460)
    shutil.copy(plain / "tokenizer.model", folder)
    settings = json.loads((plain / "tokenizer_config.json").read_text())
    settings |= {"model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    opened = open_checkpoint(str(folder))
    assert opened.config["vocab_size"] == 460
    assert torch.allclose(logits(opened.path), unmerged, rtol=0, atol=1e-5)
    found = json.loads((opened.path / "tokenizer_config.json").read_text())
    assert found["model_max_length"] == 77


def test_pitfall_tokenizer_rows_break_merges(plain, tmp_path):
    """49,953 rows against 49,954 tokens: here 420 against 421, and rows of two sizes."""
    from transformers import AutoTokenizer

    folder, _ = write_adapter(plain, tmp_path / "adapter", rows=420)
    tokenizer = AutoTokenizer.from_pretrained(plain)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        BadCheckpoint, match="a tokenizer of 421 tokens, but embeddings of 420 rows"
    ):
        open_checkpoint(str(folder))
    assert not any(merged_home().glob("[!.]*"))
    weights = load_file(folder / "adapter_model.safetensors")
    head = next(name for name in weights if name.endswith("lm_head.weight"))
    weights[head] = weights[head][:-1].clone()
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(BadCheckpoint, match="embeddings of 420 rows and a head of 419"):
        open_checkpoint(str(folder))


def test_new_tokens_without_their_rows_are_refused(plain, tmp_path):
    from transformers import AutoTokenizer

    folder, _ = write_adapter(plain, tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(plain)
    tokenizer.add_tokens([f"<extra{n}>" for n in range(40)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(BadCheckpoint, match="460 tokens, but embeddings of 448 rows"):
        open_checkpoint(str(folder))


def test_the_base_is_found_beside_or_named(plain, adapter, tmp_path):
    folder = shutil.copytree(adapter[0], tmp_path / "sub" / "adapter")
    shutil.copytree(plain, tmp_path / "sub" / "base")
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    kept = open_checkpoint(str(adapter[0])).fingerprint
    file.write_text(json.dumps(config | {"base_model_name_or_path": "../base"}))
    assert open_checkpoint(str(folder)).fingerprint == kept, "where the base lies does not count"
    file.write_text(json.dumps(config | {"base_model_name_or_path": "../gone"}))
    with pytest.raises(BadCheckpoint, match=r"gone.*--base"):
        open_checkpoint(str(folder))
    assert open_checkpoint(str(folder), base=str(plain)).fingerprint == kept
    file.write_text(json.dumps(config | {"base_model_name_or_path": "."}))
    with pytest.raises(BadCheckpoint, match="without end"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"peft_type": "IA3"}, "IA3, not LORA"),
        ({"megatron_config": {"a": 1}}, "Megatron"),
        ({"target_modules": ["no_such_layer"]}, "does not fit its base"),
    ],
)
def test_other_adapters_are_refused(adapter, tmp_path, change, match):
    folder = shutil.copytree(adapter[0], tmp_path / "other")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BadCheckpoint, match=match):
        open_checkpoint(str(folder))


def test_an_adapter_needs_its_weights(adapter, tmp_path):
    folder = shutil.copytree(adapter[0], tmp_path / "other")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match="adapter without weights"):
        open_checkpoint(str(folder))


def test_peft_is_named_where_it_is_missing(adapter, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(EngineUnavailable, match="pip install peft"):
        open_checkpoint(str(adapter[0]))


def test_the_cache_is_used_the_second_time(adapter, monkeypatch):
    first = open_checkpoint(str(adapter[0]))
    stamp = (first.path / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr("evalsuite.checkpoint.adapter.merge_adapter", None)
    again = open_checkpoint(str(adapter[0]))
    assert (again.path, again.fingerprint) == (first.path, first.fingerprint)
    assert (again.path / "model.safetensors").stat().st_mtime_ns == stamp


def test_what_was_tidied_away_is_merged_again(adapter, own_home):
    first = open_checkpoint(str(adapter[0]))
    expected = logits(first.path)
    (first.path / "model.safetensors").write_bytes(b"")
    again = open_checkpoint(str(adapter[0]))
    assert torch.equal(logits(again.path), expected)


def test_the_fingerprint_changes_with_every_part(plain, adapter, tmp_path):
    folder = shutil.copytree(adapter[0], tmp_path / "adapter")
    base = shutil.copytree(plain, tmp_path / "base")
    from evalsuite.checkpoint.forms import find_form

    def seen():
        return find_form(str(folder), base=str(base)).fingerprint

    kept = seen()
    assert kept == find_form(str(adapter[0]), base=str(plain)).fingerprint
    for file in (
        base / "model.safetensors",
        base / "config.json",
        base / "tokenizer.model",
        folder / "adapter_model.safetensors",
        folder / "adapter_config.json",
        folder / "chat_template.jinja",
    ):
        old = file.read_bytes() if file.exists() else None
        if file.suffix == ".json":
            file.write_text(json.dumps(json.loads(old) | {"lora_dropout": 0.5}))
        elif old and file.suffix == ".safetensors":
            file.write_bytes(old[:-1] + bytes([old[-1] ^ 1]))
        else:
            file.write_bytes((old or b"") + b" ")
        assert seen() != kept, file
        file.unlink() if old is None else file.write_bytes(old)
    assert seen() == kept
