"""Eight and four bits: made here with torchao, brought by bitsandbytes, and what cannot run."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys

import pytest
import torch
from contract import ALL, CHOOSE, EngineContract, ask, assert_same
from safetensors.torch import load_file, save_file

from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines._quantised import GROUP, PACKAGES, SCHEMES
from evalsuite.engines.opening import open_engine
from evalsuite.engines.options import ModelOptions
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.errors import BadCheckpoint, BadOption, EngineUnavailable, UsageError
from evalsuite.request import Choose, Chosen, Failure, Generate, Generated

TOKENIZER = ("tokenizer.model", "tokenizer_config.json")


def installed(*packages):
    """Skips unless all of these can be imported."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def open_path(path, **options):
    """With transformers' modules, so that their weights can be looked at."""
    checkpoint = open_checkpoint(str(path))
    return TransformersEngine(checkpoint, ModelOptions(**options), native=False)


@pytest.fixture(scope="module")
def plain(checkpoint_path):
    return open_path(checkpoint_path)


@pytest.fixture(scope="module")
def engine(checkpoint_path):
    """int8 with float32 activations: an engine like any other."""
    return open_path(checkpoint_path, dtype="int8")


@installed("torchao")
class TestContract(EngineContract):
    """As every engine keeps it."""


def rounded(weight, bits, group):
    """Round to nearest, written out: symmetric in a row for 8 bits, asymmetric in groups for 4."""
    grouped = weight.double().reshape(-1, group or weight.shape[1])
    if bits == 8:
        scale = grouped.abs().amax(1, keepdim=True) / 127.5
        return ((grouped / scale).round().clamp(-128, 127) * scale).reshape(weight.shape)
    low, high = grouped.amin(1, keepdim=True), grouped.amax(1, keepdim=True)
    scale = (high - low) / 15
    return (((grouped - low) / scale).round() * scale + low).reshape(weight.shape)


def linears(engine):
    module = engine._model._module
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, torch.nn.Linear) and name != "lm_head"
    }


@installed("torchao")
@pytest.mark.parametrize(("dtype", "bits", "group"), [("int8", 8, 0), ("int4", 4, GROUP)])
def test_weights_are_rounded_to_nearest(checkpoint_path, plain, dtype, bits, group):
    """What a layer computes is as far from the exact product as with weights rounded by hand.

    Not equal to the latter: a scale in bfloat16 moves some weights to the neighbouring value.
    """
    quantised = open_path(checkpoint_path, dtype=dtype)
    torch.manual_seed(0)
    for name, part in linears(quantised).items():
        original = linears(plain)[name].weight.detach()
        x = torch.randn(7, original.shape[1], dtype=quantised._model._module.dtype)
        with torch.no_grad():
            found = part(x).double()
        exact = x.double() @ original.double().T
        by_hand = (x.double() @ rounded(original, bits, group).T - exact).norm()
        assert float((found - exact).norm() / by_hand) == pytest.approx(1, abs=0.2), name


@installed("torchao")
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_head_embedding_and_norms_stay(checkpoint_path, plain, dtype):
    module = open_path(checkpoint_path, dtype=dtype)._model._module
    original = plain._model._module.state_dict()
    for name in ("lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"):
        kept = module.state_dict()[name]
        assert torch.equal(kept, original[name].to(kept.dtype)), name


@installed("torchao")
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_tied_embeddings_stay_tied(checkpoint_path, tmp_path, dtype):
    folder = shutil.copytree(checkpoint_path, tmp_path / "tied")
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tied = open_path(folder, dtype=dtype)
    module = tied._model._module
    assert module.lm_head.weight is module.model.embed_tokens.weight
    assert tied.parameters == open_path(folder).parameters
    assert all(isinstance(answer, Chosen) for answer in ask(tied, CHOOSE).values())


@installed("torchao")
def test_int4_answers_every_request(checkpoint_path):
    """In bfloat16 a likelihood depends on the batch in its last digits; the rest is the contract."""
    quantised = open_path(checkpoint_path, dtype="int4")
    kinds = {Choose: Chosen, Generate: Generated}
    answers = ask(quantised, ALL)
    assert not any(isinstance(answer, Failure) for answer in answers.values())
    assert all(type(answers[n]) is kinds[type(r)] for n, r in ALL.items() if type(r) in kinds)
    assert_same(ask(quantised, ALL), answers)


@installed("torchao")
def test_weights_take_the_bits_they_say(checkpoint_path):
    """Bytes of a layer's tensors: one a weight, or half a byte and two bfloat16 a group.

    The scales of the rows are up to a tenth in so small a layer.
    """
    for dtype, bytes_each in (("int8", 1.0), ("int4", 0.5 + 4 / GROUP)):
        part = linears(open_path(checkpoint_path, dtype=dtype))["model.layers.0.mlp.up_proj"]
        names, _ = part.weight.__tensor_flatten__()
        inner = {name: getattr(part.weight, name) for name in names}
        size = sum(t.numel() * t.element_size() for t in inner.values() if t is not None)
        assert 1 <= size / (part.weight.numel() * bytes_each) < 1.1


@installed("torchao")
def test_runs_never_mix_answers(checkpoint_path, plain, engine):
    """Keys of the cache differ by dtype, and so do the descriptions in the manifest."""
    names, requests = list(ALL), list(ALL.values())
    opened = [plain, engine]
    opened += [open_path(checkpoint_path, dtype=dtype) for dtype in ("bfloat16", "int4")]
    keys = [{p.key for p in e.prepare(names, requests)} for e in opened]
    assert len(set.union(*keys)) == 4 * len(ALL)
    assert [e.description["dtype"] for e in opened] == ["float32", "int8", "bfloat16", "int4"]
    assert "groups of 32" in opened[-1].description["quantization"]
    assert all(e.parameters == plain.parameters for e in opened)


@installed("torchao")
def test_a_width_that_no_group_divides_is_refused(checkpoint_path, tmp_path):
    from checkpoint_factory import write_weights

    folder = tmp_path / "odd"
    folder.mkdir()
    for name in TOKENIZER:
        shutil.copy(checkpoint_path / name, folder)
    write_weights(folder, 4, hidden_size=48, num_attention_heads=4, num_key_value_heads=2)
    with pytest.raises(BadCheckpoint, match=r"columns of 32; model.layers.0.self_attn.q_proj") as e:
        open_path(folder, dtype="int4").ready()
    assert "int8" in e.value.hint
    assert open_path(folder, dtype="int8").description["dtype"] == "int8"


def hide(monkeypatch, *names):
    """As on a machine without these packages."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in names else real(name, *a)
    )


@pytest.mark.parametrize("dtype", list(SCHEMES))
def test_without_torchao_it_is_named(checkpoint_path, monkeypatch, dtype):
    hide(monkeypatch, "torchao")
    with pytest.raises(EngineUnavailable, match="torchao") as caught:
        open_path(checkpoint_path, dtype=dtype)
    assert caught.value.hint == "pip install torchao"


def quantised_config(checkpoint_path, folder, **settings):
    """The plain checkpoint, with a configuration that claims quantised weights."""
    shutil.copytree(checkpoint_path, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = settings
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("method", sorted(PACKAGES))
def test_a_missing_package_is_named(checkpoint_path, tmp_path, monkeypatch, method):
    folder = quantised_config(checkpoint_path, tmp_path / "x", quant_method=method, bits=4)
    hide(monkeypatch, *PACKAGES[method])
    with pytest.raises(EngineUnavailable) as caught:
        open_path(folder)
    assert method in caught.value.what
    assert caught.value.hint.startswith("pip install ")
    assert len(caught.value.hint.split()) == 2 + len(PACKAGES[method])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_hardware_is_named(checkpoint_path, tmp_path):
    folder = quantised_config(checkpoint_path, tmp_path / "x", quant_method="fp8")
    with pytest.raises(EngineUnavailable, match="CUDA device only"):
        open_path(folder)


@pytest.mark.parametrize(
    "settings",
    [{}, {"quant_method": "no-such"}, {"quant_method": "torchao"}, {"quant_method": 7}],
    ids=str,
)
def test_a_configuration_that_is_none_is_refused(checkpoint_path, tmp_path, settings):
    """transformers' errors become ours, whatever the configuration holds."""
    folder = quantised_config(checkpoint_path, tmp_path / "x", **settings)
    with pytest.raises((UsageError, EngineUnavailable)) as caught:
        open_path(folder)
    assert str(folder) in caught.value.where


def test_quantised_twice_is_refused(checkpoint_path, tmp_path):
    folder = quantised_config(checkpoint_path, tmp_path / "x", quant_method="gptq", bits=4)
    with pytest.raises(BadOption, match="quantised already"):
        open_path(folder, dtype="int4")


BITSANDBYTES = {
    "nf4": ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, 1.0),
    "fp4-double": (
        {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": True},
        2.5,
    ),
    "int8": ({"load_in_8bit": True}, 0.1),
}
"""Settings, and a bound on the mean |Δ log-likelihood| a token of these random weights."""


@pytest.fixture(scope="module")
def write_bitsandbytes(checkpoint_path, tmp_path_factory):
    """Checkpoints as transformers and bitsandbytes save them, from the plain one."""

    def write(name):
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        folder = tmp_path_factory.mktemp("bitsandbytes") / name
        settings = BitsAndBytesConfig(**BITSANDBYTES[name][0])
        model = AutoModelForCausalLM.from_pretrained(
            checkpoint_path, quantization_config=settings, device_map={"": "cpu"}
        )
        model.save_pretrained(folder)
        for file in TOKENIZER:
            shutil.copy(checkpoint_path / file, folder)
        return folder

    return write


def mean_difference(left, right):
    deltas = [
        abs(a - b) / count
        for name in CHOOSE
        for a, b, count in zip(
            left[name].logprobs, right[name].logprobs, right[name].token_counts, strict=True
        )
    ]
    return statistics.fmean(deltas)


@installed("bitsandbytes", "accelerate")
@pytest.mark.parametrize("name", list(BITSANDBYTES))
def test_bitsandbytes_runs_on_a_processor(write_bitsandbytes, plain, name, capfd):
    folder = write_bitsandbytes(name)
    capfd.readouterr()
    opened = open_path(folder)
    answers = ask(opened, ALL)
    assert capfd.readouterr() == ("", "")
    assert not any(isinstance(answer, Failure) for answer in answers.values())
    assert opened.description["quantization"] == "bitsandbytes"
    assert opened.parameters == plain.parameters
    assert 0 < mean_difference(ask(opened, CHOOSE), ask(plain, CHOOSE)) < BITSANDBYTES[name][1]


@installed("bitsandbytes", "accelerate")
def test_a_missing_quantised_weight_is_not_made_up(write_bitsandbytes):
    folder = write_bitsandbytes("nf4")
    file = folder / "model.safetensors"
    weights = load_file(file)
    gone = [name for name in weights if "layers.1.mlp.up_proj" in name]
    assert gone
    save_file({k: v for k, v in weights.items() if k not in gone}, file, metadata={"format": "pt"})
    with pytest.raises(BadCheckpoint):
        open_path(folder)


FORMS = {  # with a bound on the mean |Δ log-likelihood|, two to three times what is seen
    "fp16": ({"dtype": "float16"}, 0.01),
    "int8": ({"dtype": "int8"}, 0.1),
    "int4": ({"dtype": "int4"}, 1.0),
}


def test_row_inference_fp16_int8_int4_gguf(checkpoint_path, tmp_path, plain, capsys):
    """Each form evaluates through the same call; its difference to float32 is reported."""
    for package in ("torchao", "llama_cpp", "gguf"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    from gguf_writer import write_gguf

    expected = ask(plain, CHOOSE)
    opened = {
        name: (
            open_engine("auto", open_checkpoint(str(checkpoint_path)), ModelOptions(**options)),
            bound,
        )
        for name, (options, bound) in FORMS.items()
    }
    file = write_gguf(checkpoint_path, tmp_path / "model.gguf", "Q4_0")
    opened["gguf Q4_0"] = (open_engine("auto", open_checkpoint(str(file))), 2.0)
    differences = {}
    for name, (form, bound) in opened.items():
        answers = ask(form, ALL)
        assert not any(isinstance(answer, Failure) for answer in answers.values()), name
        differences[name] = mean_difference(ask(form, CHOOSE), expected)
        assert 0 < differences[name] < bound, name
        form.close()
    assert differences["fp16"] < differences["int8"] < differences["int4"]
    assert all(map(math.isfinite, differences.values()))
    with capsys.disabled():
        shown = ", ".join(f"{name} {value:.2g}" for name, value in differences.items())
        print(f"\nmean |Δ log-likelihood| a token: {shown}")


@installed("torchao")
def test_a_run_on_the_command_line(roomy_checkpoint_path, tmp_path):
    """The usual command, in a process that has nothing loaded: torchao's reports stay unseen."""
    command = [sys.executable, "-m", "evalsuite", "run", "--model", str(roomy_checkpoint_path)]
    command += ["--tasks", "cmmlu", "--limit", "2", "--dtype", "int4", "--display", "plain"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"EVALSUITE_HOME": str(tmp_path / "home")},
    )
    assert "torch" not in done.stderr
    [manifest] = (tmp_path / "runs").glob("*/run.json")
    engine = json.loads(manifest.read_text(encoding="utf-8"))["engine"]
    assert engine["dtype"] == "int4"
    assert "groups of 32" in engine["quantization"]
