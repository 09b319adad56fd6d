"""Weights and tokenizers read without transformers are those that transformers reads, or are left to it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from contract import HOSTILE, QUESTION
from safetensors.torch import load_file, save_file

from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines._native_loading import read_native
from evalsuite.engines._tokenizer_file import FileTokenizer, read_tokenizer
from evalsuite.engines._tokens import Tokens
from evalsuite.engines._weights import load_model

SHAPE = {
    "vocab_size": 448,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
KINDS = {
    "llama": {"tie_word_embeddings": False},
    "llama tied": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": None},
    "qwen2": {"use_sliding_window": False, "tie_word_embeddings": True},
    "qwen3": {"use_sliding_window": False, "head_dim": 32},
}


def write(folder, kind, **changes):
    """A random checkpoint of the architecture, with the test's tokenizer."""
    import transformers

    name = kind.split()[0]
    prefix = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}[name]
    config = getattr(transformers, f"{prefix}Config")(**SHAPE | KINDS[kind] | changes)
    torch.manual_seed(1)
    module = getattr(transformers, f"{prefix}ForCausalLM")(config)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    module.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory, checkpoint_path):
    found = {}
    for kind in KINDS:
        found[kind] = write(tmp_path_factory.mktemp("native") / "model", kind)
        for file in checkpoint_path.glob("tokenizer*"):
            shutil.copyfile(file, found[kind] / file.name)
    return found


def transformers_module(folder, dtype="float32"):
    return load_model(
        open_checkpoint(str(folder)), dtype=dtype, device="cpu", trust_remote_code=False
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_module_is_transformers_own(folders, kind, dtype):
    mine = read_native(open_checkpoint(str(folders[kind])), dtype)
    theirs = transformers_module(folders[kind], dtype)
    weights = dict(theirs.named_parameters())
    assert {n for n, _ in mine.named_parameters()} == weights.keys()
    for name, weight in mine.named_parameters():
        assert torch.equal(weight, weights[name]), name
        assert weight.dtype is weights[name].dtype
    attention, other = mine.model.layers[0].self_attn, theirs.model.layers[0].self_attn
    assert (attention.head_dim, attention.scaling) == (other.head_dim, other.scaling)
    assert mine.model.norm.variance_epsilon == theirs.model.norm.variance_epsilon
    assert mine.generation_config.eos_token_id == theirs.generation_config.eos_token_id
    hidden, places = torch.zeros(1, 9, 64, dtype=theirs.dtype), torch.arange(9)[None] * 13
    for a, b in zip(
        mine.model.rotary_emb(hidden, position_ids=places),
        theirs.model.rotary_emb(hidden, position_ids=places),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_the_native_forward_pass_gives_transformers_logits(folders, kind):
    from evalsuite.engines._native import NativeModel

    ids = torch.randint(448, (3, 21), generator=torch.Generator().manual_seed(3))
    places = torch.arange(3).repeat_interleave(21), torch.arange(21).repeat(3)
    model = NativeModel(read_native(open_checkpoint(str(folders[kind])), "float32"))
    with torch.no_grad():
        expected = transformers_module(folders[kind])(ids).logits.reshape(63, -1)
    torch.testing.assert_close(model.logits(ids, places), expected, rtol=1e-4, atol=1e-4)


def changed(folder, copy, **settings):
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text()) | settings
    (copy / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != "gone"}))
    return copy


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"num_hidden_layers": 1},
        {"num_hidden_layers": 3},
        {"intermediate_size": 100},
        {"vocab_size": 450},
        {"rms_norm_eps": "gone"},
        {"num_key_value_heads": "gone"},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"model_type": "gemma"},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    ],
)  # fmt: skip
def test_anything_else_is_left_to_transformers(folders, tmp_path, settings):
    copy = changed(folders["llama"], tmp_path / "copy", **settings)
    assert read_native(open_checkpoint(str(copy)), "float32") is None


@pytest.mark.parametrize("fault", ["missing", "foreign", "truncated", "bin"])
def test_files_that_are_not_whole_are_left_to_transformers(folders, tmp_path, fault):
    copy = changed(folders["llama"], tmp_path / "copy")
    checkpoint, file = open_checkpoint(str(copy)), copy / "model.safetensors"
    tensors = load_file(file)
    if fault == "missing":
        del tensors["model.norm.weight"]
    if fault == "foreign":
        tensors["model.layers.9.mlp.up_proj.weight"] = torch.zeros(2)
    if fault == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif fault == "bin":
        torch.save(tensors, copy / "pytorch_model.bin")
        file.unlink()
    else:
        save_file(tensors, file)
    assert read_native(checkpoint, "float32") is None


@pytest.mark.parametrize("dtype", ["float16", "int8", "auto"])
def test_other_dtypes_are_left_to_transformers(folders, dtype):
    assert read_native(open_checkpoint(str(folders["llama"])), dtype) is None


SHIPPED = "train/checkpoints/tiny-sft"


@pytest.fixture(scope="module")
def shipped(request):
    return open_checkpoint(str(request.config.rootpath / SHIPPED))


def test_the_tokenizer_is_transformers_own(shipped):
    from transformers import AutoTokenizer

    mine, theirs = (
        read_tokenizer(shipped.path, shipped.config),
        AutoTokenizer.from_pretrained(shipped.path),
    )
    assert isinstance(mine, FileTokenizer)
    for name in ("bos_token", "eos_token", "bos_token_id", "eos_token_id", "model_max_length"):
        assert getattr(mine, name) == getattr(theirs, name), name
    assert len(mine) == len(theirs)
    assert set(mine.all_special_ids) == set(theirs.all_special_ids)
    assert mine.get_vocab() == theirs.get_vocab()
    assert mine.get_added_vocab() == theirs.get_added_vocab()
    for text in [*HOSTILE, QUESTION, "<s>今天</s>", "", " ", "a\n\nb"]:
        text = text.encode("utf-8", "replace").decode()
        for added in (True, False):
            ids = mine(text, add_special_tokens=added)["input_ids"]
            assert ids == theirs(text, add_special_tokens=added)["input_ids"]
            for skip in (True, False):
                assert mine.decode(ids, skip_special_tokens=skip) == theirs.decode(
                    ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
                )


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.Y", None]}}),
        ("tokenizer_config.json", {"bos_token": "<begin>"}),
        ("tokenizer_config.json", {"additional_special_tokens": ["<extra>"]}),
        ("tokenizer_config.json", {"a setting of tomorrow": True}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"5": {"content": "<x>"}}}),
        ("special_tokens_map.json", {"eos_token": "<unk>"}),
        ("added_tokens.json", {"<x>": 2000}),
    ],
)
def test_a_tokenizer_that_is_more_than_its_file_is_left_to_transformers(
    shipped, tmp_path, file, settings
):
    copy = tmp_path / "copy"
    shutil.copytree(shipped.path, copy)
    path = copy / file
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(known | settings))
    assert read_tokenizer(copy, shipped.config) is None


def test_a_run_on_a_plain_checkpoint_imports_no_transformers(request):
    program = (
        "import sys\n"
        "from evalsuite.checkpoint import open_checkpoint\n"
        "from evalsuite.engines.opening import open_engine\n"
        "from evalsuite.request import Choose, Prompt\n"
        f"engine = open_engine('auto', open_checkpoint({SHIPPED!r}))\n"
        "print(engine.description)\n"
        "ready = engine.prepare(['x'], [Choose(Prompt('今天'), ('A', 'B'))])\n"
        "[(_, answer)] = engine.answer(ready)\n"
        "print(answer.logprobs)\n"
        "heavy = {'transformers', 'sklearn', 'scipy', 'pandas', 'torch._dynamo'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("form", ["tokenizer.model", "tokenizer.json"])
def test_a_known_class_is_the_one_that_auto_tokenizer_chooses(checkpoint_path, tmp_path, form):
    from transformers import AutoTokenizer

    copy = tmp_path / "copy"
    shutil.copytree(checkpoint_path, copy)
    theirs = AutoTokenizer.from_pretrained(copy)
    if form == "tokenizer.json":
        theirs.save_pretrained(copy)
        (copy / "tokenizer.model").unlink()
        settings = json.loads((copy / "tokenizer_config.json").read_text())
        settings["tokenizer_class"] = "LlamaTokenizerFast"
        (copy / "tokenizer_config.json").write_text(json.dumps(settings))
        theirs = AutoTokenizer.from_pretrained(copy)
    mine = Tokens(open_checkpoint(str(copy)))._tokenizer
    assert type(mine) is type(theirs)
    assert type(mine).__name__ == "LlamaTokenizer"
    assert mine.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()


def test_without_a_tokenizer_file_transformers_reads_it(checkpoint_path):
    checkpoint = open_checkpoint(str(checkpoint_path))
    assert read_tokenizer(checkpoint.path, checkpoint.config) is None
    assert not isinstance(Tokens(checkpoint)._tokenizer, FileTokenizer)
