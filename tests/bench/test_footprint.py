"""What a loaded model holds and computes, against its file, its cache and torch's own counter."""

from __future__ import annotations

import json
import warnings

import pytest
from checkpoint_factory import write_tokenizer, write_weights

from evalsuite.bench.ceiling import ceiling
from evalsuite.bench.host import Span
from evalsuite.bench.quantities import computed_flops, floor_seconds
from evalsuite.bench.sample import Timing
from evalsuite.bench.workload import answered, prompts, tally
from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines.opening import open_engine
from evalsuite.engines.options import ModelOptions
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.measurements import Workload


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("footprint") / "model"
    write_tokenizer(folder)
    write_weights(
        folder, seed=5, hidden_size=128, intermediate_size=512, tie_word_embeddings=request.param
    )
    return folder


def opened(folder, dtype="float32"):
    return open_engine(
        "auto", open_checkpoint(str(folder)), ModelOptions(dtype=dtype, device="cpu")
    )


def tied(folder) -> bool:
    return json.loads((folder / "config.json").read_text())["tie_word_embeddings"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_take_what_the_file_holds(folder, dtype):
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as file:
        numbers = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    engine = opened(folder, dtype)
    width = 4 if dtype == "float32" else 2
    tables = 448 * 128
    # The forward pass written out here keeps a copy of a tied table, laid out for its kernels.
    assert engine.footprint.weight_bytes == (numbers + tables * tied(folder)) * width
    assert engine.parameters == numbers
    body = numbers - tables * (1 if tied(folder) else 2)
    assert engine.footprint.body_parameters == body
    assert engine.footprint.head_parameters == tables


def test_quantised_weights_are_counted_as_they_are_packed(folder):
    """A byte a weight, a scale a row, and whatever is not quantised."""
    plain, packed = opened(folder).footprint, opened(folder, "int8").footprint
    assert packed.body_parameters == plain.body_parameters
    assert plain.weight_bytes / 4 < packed.weight_bytes < plain.weight_bytes * 0.62


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_keys_and_values_take_what_the_cache_grows_by(folder, dtype):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    cache = model(torch.arange(3, 33)[None], use_cache=True).past_key_values
    grown = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert opened(folder, dtype).footprint.kv_bytes_per_token == grown / 30


def test_operations_are_those_that_torch_counts(folder):
    """Torch counts attention as well, which is left out here: a few per cent of so short a text."""
    from torch.utils.flop_counter import FlopCounterMode

    checkpoint = open_checkpoint(str(folder))
    engine = TransformersEngine(checkpoint, ModelOptions(device="cpu"), native=False)
    engine.ignore_ends = True
    prepared = prompts(
        engine, Workload(name="mixed", requests=2, prompt_tokens=48, answer_tokens=6), 0
    )
    before = engine.work
    with warnings.catch_warnings(), FlopCounterMode(display=False) as counter:
        warnings.simplefilter("ignore")
        answers = answered(engine, prepared)
    timing = Timing(
        span=Span(seconds=1, cpu_seconds=1), tally=tally(prepared, answers), work=engine.work
    )
    assert before.prefill_tokens == 0
    mine = computed_flops(timing, engine.footprint, engine.parameters)
    assert mine == pytest.approx(counter.get_total_flops(), rel=0.06)


def test_nothing_is_faster_than_its_floor(folder):
    """Measured on this machine in this moment: a share of the floor above one would be a fault."""
    import time

    engine = opened(folder)
    most = ceiling("float32", "cpu", engine.footprint.weight_bytes)
    assert 1e8 < most.bytes < 1e13
    assert 1e8 < most.flops < 1e14
    prepared = prompts(engine, Workload(name="prefill", requests=8, prompt_tokens=128), 0)
    began = time.perf_counter()
    answers = answered(engine, prepared)
    seconds = time.perf_counter() - began
    timing = Timing(
        span=Span(seconds=seconds, cpu_seconds=seconds),
        tally=tally(prepared, answers),
        work=engine.work,
    )
    least = floor_seconds(timing, engine.footprint, engine.parameters, most)
    assert 0 < least < seconds
