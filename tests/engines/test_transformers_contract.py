"""The transformers engine, as an engine."""

from __future__ import annotations

import shutil

import pytest
import torch
from contract import ALL, CHOOSE, GENERATE, QUESTION, EngineContract, ask, assert_same

from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines.options import ModelOptions
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.errors import BadOption, EngineFailed
from evalsuite.request import Choose, Failure, Generate, Prompt, Sampling, Score


@pytest.fixture(scope="module")
def engine(checkpoint_path, native):
    opened = TransformersEngine(open_checkpoint(str(checkpoint_path)), native=native)
    assert opened.description["forward"] == ("native" if native else "transformers")
    return opened


class TestContract(EngineContract):
    """As every engine keeps it."""


def test_it_describes_the_checkpoint(engine, module):
    assert engine.context == 256
    assert engine.parameters == sum(p.numel() for p in module.parameters())
    assert engine.template_name == "none"
    assert engine.description["dtype"] == "float32"
    assert torch.__version__ in engine.description["version"]


def test_batch_size_does_not_change_answers(engine, checkpoint_path, native):
    checkpoint = open_checkpoint(str(checkpoint_path))
    tiny = TransformersEngine(checkpoint, ModelOptions(batch_tokens=1), native=native)
    assert_same(ask(tiny, ALL), ask(engine, ALL))


def test_the_native_forward_pass_answers_as_transformers_modules(checkpoint_path):
    checkpoint = open_checkpoint(str(checkpoint_path))
    opened = [TransformersEngine(checkpoint, native=n) for n in (True, False)]
    assert_same(*(ask(engine, ALL) for engine in opened))


def test_keys_follow_the_weights_not_the_path(
    checkpoint_path, other_checkpoint_path, tmp_path, engine
):
    shutil.copytree(checkpoint_path, tmp_path / "copy")
    names, requests = list(ALL), list(ALL.values())

    def keys(path, **options):
        opened = TransformersEngine(open_checkpoint(str(path)), ModelOptions(**options))
        return [prepared.key for prepared in opened.prepare(names, requests)]

    here = [prepared.key for prepared in engine.prepare(names, requests)]
    assert keys(tmp_path / "copy", batch_tokens=7) == here
    assert set(keys(other_checkpoint_path)).isdisjoint(here)
    assert set(keys(checkpoint_path, dtype="bfloat16")).isdisjoint(here)


def test_keys_hold_what_decides_the_answer_and_nothing_else(engine):
    def key(prompt="今天", **sampling):
        return engine.prepare(["x"], [Generate(Prompt(prompt), Sampling(**sampling))])[0].key

    assert key(seed=1) == key(seed=2)
    assert key(top_k=5) == key()
    assert key(temperature=1.0, seed=1) != key(temperature=1.0, seed=2)
    assert len({key(), key("今"), key(max_tokens=5), key(stop=("x",)), key(stop=("\ud800",))}) == 5
    request = Choose(Prompt("今天"), ("A",))
    score = Score(Prompt("今天"), "A")
    assert len({p.key for p in engine.prepare(["x", "y"], [request, score])}) == 2


def test_a_request_that_failed_in_preparation_costs_nothing(engine):
    prepared = engine.prepare(["x"], [Choose(Prompt("x"), ("A", ""))])
    assert prepared[0].failure is not None
    assert prepared[0].failure.code == "empty_continuation"
    assert "choice 2" in prepared[0].failure.message


def test_no_choices_pick_nothing(engine):
    answer = ask(engine, {"x": Choose(Prompt("x"), ())})["x"]
    assert answer.picked is None


@pytest.mark.parametrize(
    "sampling",
    [
        {"max_tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_k": -1},
        {"repetition_penalty": 0.0},
    ],
    ids=str,
)
def test_senseless_sampling_is_refused_before_anything_runs(engine, sampling):
    with pytest.raises(BadOption, match=next(iter(sampling))):
        engine.prepare(["x"], [Generate(Prompt("x"), Sampling(**sampling))])


@pytest.mark.parametrize(
    "options",
    [{"dtype": "float23"}, {"device": "gpu"}, {"device": "cpu:x"}, {"batch_tokens": 0}],
    ids=str,
)
def test_senseless_options_are_refused(checkpoint_path, options):
    with pytest.raises(BadOption):
        TransformersEngine(open_checkpoint(str(checkpoint_path)), ModelOptions(**options))


def test_half_precision_is_close(engine, checkpoint_path, native):
    checkpoint = open_checkpoint(str(checkpoint_path))
    half = TransformersEngine(checkpoint, ModelOptions(dtype="bfloat16"), native=native)
    assert half.description["forward"] == engine.description["forward"]
    assert half.description["dtype"] == "bfloat16"
    for name, answer in ask(half, CHOOSE).items():
        assert answer.logprobs == pytest.approx(
            ask(engine, CHOOSE)[name].logprobs, rel=0.1, abs=0.5
        )


def test_a_closed_engine_says_so(checkpoint_path):
    closed = TransformersEngine(open_checkpoint(str(checkpoint_path)))
    closed.close()
    closed.close()
    with pytest.raises(EngineFailed, match="closed"):
        ask(closed, CHOOSE)


def test_nothing_is_written_to_the_terminal(checkpoint_path, capfd):
    quiet = TransformersEngine(open_checkpoint(str(checkpoint_path)))
    ask(quiet, ALL | {"long": Generate(Prompt("气" * 3000))})
    assert capfd.readouterr() == ("", "")


def inject(monkeypatch, engine, fault, when):
    """Make the model's forward pass raise ``fault()`` for batches that ``when(ids)`` selects.

    Running out of memory for real would take the machine down with it; everything around the one
    raising call is the real thing.
    """
    native = engine.description["forward"] == "native"
    place, name = (engine._model, "embedded") if native else (engine._model._module, "forward")
    real, refused = getattr(place, name), []

    def forward(*args, **kwargs):
        ids = args[0] if args else kwargs["input_ids"]
        if when(ids):
            refused.append(len(ids))
            raise fault()
        return real(*args, **kwargs)

    monkeypatch.setattr(place, name, forward)
    return refused


OUT_OF_MEMORY = [
    lambda: torch.OutOfMemoryError("CUDA out of memory"),
    lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
]


@pytest.mark.parametrize("fault", OUT_OF_MEMORY)
@pytest.mark.parametrize("asked", [CHOOSE, GENERATE], ids=["choose", "generate"])
def test_a_batch_that_does_not_fit_is_halved(monkeypatch, engine, fault, asked):
    expected = ask(engine, asked)
    refused = inject(monkeypatch, engine, fault, lambda ids: len(ids) > 1)
    assert_same(ask(engine, asked), expected)
    assert refused


@pytest.mark.parametrize("asked", [CHOOSE, GENERATE], ids=["choose", "generate"])
def test_a_row_that_does_not_fit_alone_is_a_failure(monkeypatch, engine, asked):
    inject(monkeypatch, engine, OUT_OF_MEMORY[0], lambda ids: True)
    assert {answer.code for answer in ask(engine, asked).values()} == {"out_of_memory"}


def test_one_row_that_breaks_the_model_breaks_no_other(monkeypatch, engine):
    asked = CHOOSE | {"poison": Choose(Prompt(QUESTION + "毒"), ("A", "B"))}
    poison = engine.prepare(["x"], [asked["poison"]])[0].prompt[-2:]
    expected = ask(engine, CHOOSE)

    def poisoned(ids):
        return any(
            poison == tuple(row[at : at + 2]) for row in ids.tolist() for at in range(len(row))
        )

    inject(monkeypatch, engine, lambda: ValueError("a kernel\nfailed"), poisoned)
    answers = ask(engine, asked)
    assert answers.pop("poison") == Failure("engine_failed", "ValueError: a kernel")
    assert_same(answers, expected)


def test_an_interrupt_passes_through(monkeypatch, engine):
    inject(monkeypatch, engine, KeyboardInterrupt, lambda ids: True)
    for asked in (CHOOSE, GENERATE):
        with pytest.raises(KeyboardInterrupt):
            ask(engine, asked)


def test_logits_that_are_not_numbers_are_a_failure(checkpoint_path, native):
    broken = TransformersEngine(open_checkpoint(str(checkpoint_path)), native=native)
    norm = broken._model._norm if native else broken._model._module.model.norm
    with torch.no_grad():
        norm.weight.fill_(float("nan"))
    for answer in ask(broken, ALL).values():
        assert isinstance(answer, Failure)
        assert answer.code == "engine_failed"
        assert "not numbers" in answer.message
