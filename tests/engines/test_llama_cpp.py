"""GGUF files: the contract, equal logits, and what is refused."""

from __future__ import annotations

import builtins
import math
import shutil
import sys

import pytest
import torch
from contract import ALL, CHOOSE, GENERATE, SCORE, EngineContract, ask, assert_same

from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines.opening import open_engine
from evalsuite.engines.options import ModelOptions
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.errors import BadCheckpoint, BadOption, EngineFailed, EngineUnavailable
from evalsuite.request import Failure, Generate, Prompt, Sampling

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
pytest.importorskip("gguf", reason="the package gguf is not installed")

from gguf_writer import write_gguf

from evalsuite.engines.llama_cpp import LlamaCppEngine

PLAIN = {name: request for name, request in ALL.items() if "hostile" not in name}
"""Texts without special tokens spelled out, on whose spaces tokenizers differ."""

TOKENIZER = ("tokenizer.model", "tokenizer_config.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def exact_file(checkpoint_path, folder):
    """Float32, alone in its folder: llama.cpp's own tokenizer reads the prompts."""
    return write_gguf(checkpoint_path, folder / "alone-F32.gguf", "F32")


@pytest.fixture(scope="module")
def engine(exact_file):
    opened = LlamaCppEngine(open_checkpoint(str(exact_file)))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def plain(checkpoint_path):
    """The Hugging Face folder that the files were written from."""
    checkpoint = open_checkpoint(str(checkpoint_path))
    return TransformersEngine(checkpoint, native=False)


def beside(checkpoint_path, folder, kind):
    """A file with the checkpoint's own tokenizer beside it, and none inside."""
    folder.mkdir(exist_ok=True)
    for name in TOKENIZER:
        shutil.copy(checkpoint_path / name, folder)
    return write_gguf(checkpoint_path, folder / f"model-{kind}.gguf", kind, tokenizer=False)


class TestContract(EngineContract):
    """As every engine keeps it."""


def test_transformers_reads_the_same_weights_out_of_the_file(exact_file, plain):
    """An independent reader, so that the files of these tests are right."""
    from transformers import AutoModelForCausalLM

    read = AutoModelForCausalLM.from_pretrained(
        exact_file.parent, gguf_file=exact_file.name, dtype=torch.float32
    )
    expected = plain._model._module.state_dict()
    assert read.state_dict().keys() == expected.keys()
    for name, tensor in read.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_float32_answers_equal_those_of_the_plain_folder(engine, plain):
    """Log-likelihoods to 1e-4, texts and their ends exactly; the embedded tokenizer as well."""
    assert_same(ask(engine, PLAIN), ask(plain, PLAIN))


def test_float32_logits_equal_those_of_the_plain_folder(engine, plain):
    torch.manual_seed(0)
    ids = torch.randint(3, 420, (3, 90))
    places = (torch.arange(3).repeat_interleave(90), torch.arange(90).repeat(3))
    engine._model.reserve(300)
    here, there = engine._model.logits(ids, places), plain._model.logits(ids, places)
    assert float((here - there).abs().max()) < 1e-4


def test_what_was_asked_before_changes_nothing(engine, plain):
    """The beginning that texts share stays in the cache from one question to the next."""
    scored = {name: PLAIN[name] for name in (CHOOSE | SCORE) if name in PLAIN}
    expected = ask(plain, scored)
    for _ in range(2):
        assert_same(ask(engine, scored), expected)
    ask(engine, GENERATE)
    assert_same(ask(engine, scored), expected)


def test_batch_size_does_not_change_answers(exact_file, engine):
    tiny = LlamaCppEngine(open_checkpoint(str(exact_file)), ModelOptions(batch_tokens=1))
    assert_same(ask(tiny, ALL), ask(engine, ALL))


def test_the_tokenizer_beside_the_file_is_used(checkpoint_path, tmp_path, engine, plain):
    file = beside(checkpoint_path, tmp_path / "own", "F32")
    opened = LlamaCppEngine(open_checkpoint(str(file)))
    assert opened._tokens.size == plain._tokens.size
    assert_same(ask(opened, ALL), ask(plain, ALL))


def test_no_tokenizer_anywhere_is_refused(checkpoint_path, tmp_path):
    file = write_gguf(checkpoint_path, tmp_path / "bare.gguf", "F32", tokenizer=False)
    with pytest.raises(BadCheckpoint, match="no tokenizer"):
        LlamaCppEngine(open_checkpoint(str(file)))


def test_the_tokenizer_of_another_model_is_refused(checkpoint_path, tmp_path):
    write_gguf(checkpoint_path, tmp_path / "model.gguf", "F32")
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["quite another text, with other pieces"] * 20),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    shutil.copy(checkpoint_path / "tokenizer_config.json", tmp_path)
    with pytest.raises(BadCheckpoint, match="another model's"):
        LlamaCppEngine(open_checkpoint(str(tmp_path / "model.gguf")))


@pytest.mark.parametrize(
    ("kind", "bound"), [("F16", 0.03), ("Q8_0", 0.15), ("Q4_0", 2.5)], ids=["F16", "Q8_0", "Q4_0"]
)
def test_quantised_files_differ_by_so_much(checkpoint_path, folder, plain, kind, bound, capsys):
    """Mean |Δ log-likelihood| a choice; the bounds are about twice what these weights show."""
    file = write_gguf(checkpoint_path, folder / f"alone-{kind}.gguf", kind)
    opened = LlamaCppEngine(open_checkpoint(str(file)))
    here, there = ask(opened, CHOOSE), ask(plain, CHOOSE)
    deltas = [
        abs(a - b) / count
        for name in CHOOSE
        for a, b, count in zip(
            here[name].logprobs, there[name].logprobs, here[name].token_counts, strict=True
        )
    ]
    mean = math.fsum(deltas) / len(deltas)
    with capsys.disabled():
        print(f"\n{kind}: |Δ log-likelihood| a token, mean {mean:.2g}, most {max(deltas):.2g}")
    assert 0 < mean < bound
    assert opened.description["dtype"].startswith(kind)


def test_it_describes_the_checkpoint(engine, plain):
    assert engine.context == 256
    assert engine.parameters == plain.parameters
    assert engine.description["dtype"] == "all F32"


def test_keys_tell_precisions_and_engines_apart(checkpoint_path, folder, engine, plain):
    file = write_gguf(checkpoint_path, folder / "keys-Q8_0.gguf", "Q8_0")
    names, requests = list(ALL), list(ALL.values())
    other = LlamaCppEngine(open_checkpoint(str(file)))
    keys = [{p.key for p in e.prepare(names, requests)} for e in (engine, plain, other)]
    assert len(set.union(*keys)) == 3 * len(ALL)


@pytest.mark.parametrize("keep", [0, 3, 4, 40, 5000, -5000])
def test_a_damaged_file_is_refused(exact_file, tmp_path, keep):
    file = tmp_path / "cut.gguf"
    file.write_bytes(exact_file.read_bytes()[:keep])
    with pytest.raises(BadCheckpoint) as caught:
        LlamaCppEngine(open_checkpoint(str(file)))
    assert str(file) in caught.value.where


def test_senseless_options_are_refused(exact_file):
    checkpoint = open_checkpoint(str(exact_file))
    for options in ({"dtype": "int8"}, {"device": "gpu"}, {"batch_tokens": 0}):
        with pytest.raises(BadOption):
            LlamaCppEngine(checkpoint, ModelOptions(**options))
    with pytest.raises(EngineUnavailable, match="without a GPU"):
        LlamaCppEngine(checkpoint, ModelOptions(device="cuda"))


def test_a_gguf_file_finds_its_engine(exact_file, checkpoint_path):
    assert isinstance(open_engine("auto", open_checkpoint(str(exact_file))), LlamaCppEngine)
    with pytest.raises(BadOption, match="GGUF files only"):
        open_engine("llama_cpp", open_checkpoint(str(checkpoint_path)))


def test_a_closed_engine_says_so(exact_file):
    closed = LlamaCppEngine(open_checkpoint(str(exact_file)))
    closed.close()
    closed.close()
    with pytest.raises(EngineFailed, match="closed"):
        ask(closed, CHOOSE)


def test_nothing_is_written_to_the_terminal(exact_file, capfd):
    quiet = LlamaCppEngine(open_checkpoint(str(exact_file)))
    ask(quiet, ALL)
    quiet.close()
    assert capfd.readouterr() == ("", "")


def test_without_the_package_it_is_named(exact_file, monkeypatch):
    checkpoint = open_checkpoint(str(exact_file))
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "llama_cpp":
            raise ImportError("No module named 'llama_cpp'")
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "llama_cpp")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EngineUnavailable, match="llama-cpp-python"):
        LlamaCppEngine(checkpoint)


def test_more_rows_than_sequences_and_a_full_cache(engine, plain):
    """Long answers: batches are cut to the rows and the cells that there are."""
    asked = {f"x/{at}": Generate(Prompt(f"今天{at}"), Sampling(max_tokens=120)) for at in range(24)}
    answers = ask(engine, asked)
    assert not any(isinstance(answer, Failure) for answer in answers.values())
    assert_same(answers, ask(plain, asked))
