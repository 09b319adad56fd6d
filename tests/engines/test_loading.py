"""Weights load while requests are prepared: what waits for them, what does not, and what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from contract import ALL, CHOOSE, ask, assert_same
from quiz_factory import Quiet, take
from safetensors.torch import load_file, save_file
from test_native_loading import SHAPE

from evalsuite.checkpoint import open_checkpoint
from evalsuite.contestant import EngineOptions, find_contestants
from evalsuite.engines import transformers as engine_module
from evalsuite.engines._foreseen import Foreseen, foreseen
from evalsuite.engines._loading import Loading
from evalsuite.engines.options import ModelOptions
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.errors import BadCheckpoint, EngineFailed
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.store import find_runs

NAMES, REQUESTS = list(ALL), list(ALL.values())

# A thread that is stopped may leave a file to the garbage collector, in whatever it was importing, and may be told
# once more on its last line; pytest, unlike Python, then speaks of a SystemExit in a thread.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def open_path(path, *, native=True, **options):
    return TransformersEngine(open_checkpoint(str(path)), ModelOptions(**options), native=native)


class Gate:
    """Holds a checkpoint's loading up until it is opened."""

    def __init__(self, monkeypatch, name):
        self._open = threading.Event()
        self.reached = threading.Event()
        real = getattr(engine_module, name)

        def gated(*args, **more):
            self.reached.set()
            while not self._open.wait(0.01):
                pass
            return real(*args, **more)

        monkeypatch.setattr(engine_module, name, gated)

    def open(self):
        self._open.set()


@pytest.fixture(params=["read_native", "load_model"])
def gate(monkeypatch, request):
    found = Gate(monkeypatch, request.param)
    yield found
    found.open()


@pytest.fixture
def gated(gate, request, checkpoint_path):
    native = request.node.callspec.params["gate"] == "read_native"
    opened = open_path(checkpoint_path, native=native)
    yield opened
    gate.open()
    opened.close()


def test_prompts_are_prepared_before_the_weights_are_there(gate, gated, checkpoint_path):
    plain = open_path(checkpoint_path)
    before = gated.prepare(NAMES, REQUESTS)
    assert gate.reached.wait(30)
    assert gated.work.prefill_tokens == 0
    assert gated.context == 256
    gate.open()
    assert [p.key for p in before] == [p.key for p in plain.prepare(NAMES, REQUESTS)]
    assert gated.prepare(NAMES, REQUESTS) == before
    assert_same(ask(gated, ALL), ask(plain, ALL))
    assert gated.work.prefill_tokens > 0


@pytest.mark.parametrize(
    "look",
    [
        lambda engine: engine.ready(),
        lambda engine: engine.parameters,
        lambda engine: engine.description["forward"],
        lambda engine: engine.footprint.weight_bytes,
        lambda engine: next(engine.answer(engine.prepare(["x"], [CHOOSE["choose/one"]]))),
    ],
    ids=["ready", "parameters", "description", "footprint", "answer"],
)
def test_what_needs_the_weights_waits_for_them(gate, gated, look):
    found = []
    asking = threading.Thread(target=lambda: found.append(look(gated)))
    asking.start()
    asking.join(0.3)
    assert not found
    gate.open()
    asking.join(30)
    assert len(found) == 1


def test_closed_while_it_loads_it_stops(gate, gated):
    assert gate.reached.wait(30)
    [thread] = [t for t in threading.enumerate() if t.name == "loading"]
    gated.close()
    thread.join(5)
    assert not thread.is_alive()
    gated.close()
    with pytest.raises(EngineFailed, match="closed"):
        gated.ready()


@pytest.fixture(scope="module")
def layered_path(checkpoint_path, tmp_path_factory):
    """Two hundred layers, so that loading is more than a moment."""
    from checkpoint_factory import write_weights

    folder = tmp_path_factory.mktemp("layered") / "model"
    folder.mkdir()
    for file in checkpoint_path.glob("tokenizer*"):
        shutil.copyfile(file, folder / file.name)
    write_weights(folder, seed=1, num_hidden_layers=200)
    return folder


@pytest.mark.parametrize("native", [True, False])
def test_stopped_in_the_middle_torch_is_as_it_was(layered_path, native):
    """transformers changes torch's default dtype while it builds a model."""
    stopped = 0
    for delay in (0.0, 0.01, 0.02, 0.04, 0.08):
        engine = open_path(layered_path, dtype="bfloat16", native=native)
        time.sleep(delay)
        loading = engine._loading
        engine.close()
        loading._thread.join(10)
        assert not loading._thread.is_alive()
        stopped += not loading.done
        assert torch.get_default_dtype() is torch.float32
    assert stopped
    again = open_path(layered_path, native=native)
    assert all(answer.logprobs for answer in ask(again, CHOOSE).values())
    again.close()


def test_two_checkpoints_load_one_after_the_other(checkpoint_path):
    """A default dtype of one must not get into the other."""
    engines = [
        open_path(checkpoint_path, native=False, dtype=dtype)
        for dtype in ("bfloat16", "float32", "bfloat16", "float32")
    ]
    found = [engine.description["dtype"] for engine in engines]
    assert found == ["bfloat16", "float32", "bfloat16", "float32"]
    assert_same(ask(engines[1], CHOOSE), ask(engines[3], CHOOSE))
    assert_same(ask(engines[0], CHOOSE), ask(engines[2], CHOOSE))


def test_a_value_is_made_in_another_thread_and_kept():
    made = []
    loading = Loading(lambda: made.append(threading.get_ident()) or "it")
    assert [loading.result(), loading.result()] == ["it", "it"]
    assert loading.done
    assert len(made) == 1
    assert made[0] != threading.get_ident()
    loading.stop()
    assert loading.result() == "it"
    there = Loading.of(5)
    there.stop()
    assert there.done
    assert there.result() == 5


def test_what_loading_raised_is_raised_in_its_own_type():
    for fault in (BadCheckpoint("not whole"), MemoryError("no room"), KeyError("x")):

        def load(fault=fault):
            raise fault

        loading = Loading(load)
        for _ in range(2):
            with pytest.raises(type(fault)) as caught:
                loading.result()
            assert caught.value is fault
        assert not loading.done


# ---- damaged checkpoints -----------------------------------------------------------------------------


@pytest.fixture
def without_a_head(roomy_checkpoint_path, tmp_path):
    """Every file is whole and one tensor is missing, which only loading finds out."""
    folder = shutil.copytree(roomy_checkpoint_path, tmp_path / "headless")
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_error_comes_when_the_weights_are_needed(without_a_head):
    engine = open_path(without_a_head)
    prepared = engine.prepare(NAMES, REQUESTS)
    assert engine.shown_prompt(prepared[0])
    for look in (
        engine.ready,
        lambda: engine.parameters,
        lambda: engine.description,
        lambda: next(engine.answer(prepared)),
    ):
        with pytest.raises(BadCheckpoint, match=r"lm_head\.weight"):
            look()
    assert engine.work.prefill_tokens == 0
    engine.close()


def test_too_little_memory_for_the_weights_is_an_engines_failure(monkeypatch, checkpoint_path):
    """Running out of it for real would take the machine down; all around the raising call is real."""

    def refuse(*_args, **_more):
        raise RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )

    monkeypatch.setattr(engine_module, "load_model", refuse)
    engine = open_path(checkpoint_path, native=False)
    with pytest.raises(EngineFailed, match="not enough memory for its weights") as caught:
        engine.ready()
    assert str(checkpoint_path) in caught.value.where


def planned():
    return [plan_task(TaskChoice(label="mcq"), limit=6)]


def test_a_run_on_damaged_weights_is_one_error_and_a_failed_run(without_a_head, tmp_path):
    [contestant] = find_contestants([str(without_a_head)], EngineOptions(device="cpu"))
    display = Quiet()
    with pytest.raises(BadCheckpoint, match=r"lm_head\.weight"):
        take(contestant, planned(), tmp_path / "out", display=display)
    assert display.outlook is None
    [run] = find_runs(tmp_path / "out")
    assert run.manifest.status == "failed"
    assert "lm_head.weight" in run.manifest.warnings[0]
    seconds = run.manifest.seconds
    assert {phase for phase, taken in seconds.items() if taken} <= {"start", "load", "plan"}
    assert seconds["plan"] > 0
    assert run.manifest.checkpoint.parameters is None


def test_a_manifest_says_what_was_loaded(roomy_checkpoint_path, tmp_path):
    [contestant] = find_contestants([str(roomy_checkpoint_path)], EngineOptions(device="cpu"))
    manifest = take(contestant, planned(), tmp_path / "out").manifest
    engine = contestant.open_engine()
    assert manifest.engine == engine.description
    assert {"name", "version", "dtype", "device", "forward"} <= manifest.engine.keys()
    assert manifest.checkpoint.parameters == engine.parameters > 0
    engine.close()


def test_load_is_what_planning_does_not_hide(monkeypatch, roomy_checkpoint_path, tmp_path):
    """A loading of a second longer is a second longer in ``load``, once planning is over."""
    real = engine_module.read_native

    def slower(*args):
        time.sleep(1.0)
        return real(*args)

    monkeypatch.setattr(engine_module, "read_native", slower)
    [contestant] = find_contestants([str(roomy_checkpoint_path)], EngineOptions(device="cpu"))
    began = time.monotonic()
    manifest = take(contestant, planned(), tmp_path / "out").manifest
    wall = time.monotonic() - began
    seconds, first = manifest.seconds, manifest.first_forward["wall"]
    assert seconds["load"] + seconds["plan"] >= 1.0
    assert seconds["start"] + seconds["load"] + seconds["plan"] <= first + 0.01
    assert sum(seconds.values()) <= wall + 0.01


# ---- as a command ------------------------------------------------------------------------------------

ENDLESS = """
import sys, time
from evalsuite.engines import transformers

def endless(*args, **more):
    print("loading", file=sys.stderr, flush=True)
    while True:
        time.sleep(0.01)

transformers.read_native = endless
from evalsuite.cli.main import main
main(sys.argv[1:])
"""
"""A checkpoint that never comes to an end of loading."""


def command(checkpoint, out, home, *more, program=("-c", ENDLESS)):
    return subprocess.Popen(
        [
            sys.executable, *program, "run", "--model", str(checkpoint), "--tasks", "mcq,cmath",
            "--limit", "8", "--out", str(out), "--display", "plain", *more,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"EVALSUITE_HOME": str(home), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("delay", [0.0, 1.5], ids=["planning", "waiting"])
def test_ctrl_c_while_loading_ends_promptly_with_a_manifest(roomy_checkpoint_path, tmp_path, delay):
    process = command(roomy_checkpoint_path, tmp_path / "out", tmp_path / "home")
    for line in process.stderr:
        if line.strip() == "loading":
            break
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "Exception" not in errors
    assert "Resume with" in errors
    [run] = find_runs(tmp_path / "out")
    assert run.manifest.status == "interrupted"
    again = command(
        roomy_checkpoint_path, tmp_path / "out", tmp_path / "home", program=("-m", "evalsuite")
    )
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    [run] = find_runs(tmp_path / "out")
    assert run.manifest.status == "complete"


LEFT_LOADING = """
import time
from evalsuite.engines._loading import Loading

def endless():
    while True:
        time.sleep(0.01)

Loading(endless)
raise KeyboardInterrupt  # before anybody could stop it
"""


def test_what_nobody_stopped_ends_with_the_process():
    done = subprocess.run(
        [sys.executable, "-c", LEFT_LOADING], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGINT
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"


def test_a_dry_run_does_not_wait_for_weights(roomy_checkpoint_path, tmp_path):
    process = command(roomy_checkpoint_path, tmp_path / "out", tmp_path / "home", "--dry-run")
    shown, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "requests to compute" in errors
    assert shown.count("===") == 4, "one prompt a task"
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fault", ["headless", "cut", "gone"])
def test_a_dry_run_of_damaged_weights_shows_the_plan_or_one_error(without_a_head, tmp_path, fault):
    file = without_a_head / "model.safetensors"
    if fault == "cut":
        with file.open("r+b") as stream:
            stream.truncate(file.stat().st_size // 2)
    if fault == "gone":
        file.unlink()
    process = command(
        without_a_head,
        tmp_path / "out",
        tmp_path / "home",
        "--dry-run",
        program=("-m", "evalsuite"),
    )
    _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    assert "Exception" not in errors
    if fault == "headless":
        assert process.returncode == 0, errors
        assert "requests to compute" in errors
    else:
        assert process.returncode == 2, errors
        assert errors.strip().splitlines()[-1].startswith("evalsuite: E121")
        assert str(without_a_head) in errors


# ---- what is foreseen --------------------------------------------------------------------------------

GPT2 = {
    "vocab_size": 448, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
KINDS = {
    "Llama": SHAPE,
    "Qwen3": SHAPE | {"use_sliding_window": False, "head_dim": 32},
    "Gemma": SHAPE | {"head_dim": 16, "pad_token_id": 0},
    "Mixtral": SHAPE | {"num_local_experts": 2, "num_experts_per_tok": 1},
    "GPT2": GPT2,
    "GPTNeoX": SHAPE | {"num_key_value_heads": 4},
    "Bloom": {"vocab_size": 448, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    "OPT": SHAPE | {"ffn_dim": 96, "word_embed_proj_dim": 64, "pad_token_id": 0},
}
NATIVE = {"Llama", "Qwen3"}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory, checkpoint_path):
    import transformers

    found = {}
    for kind, settings in KINDS.items():
        found[kind] = tmp_path_factory.mktemp("kinds") / kind
        config = getattr(transformers, f"{kind}Config")(**settings)
        torch.manual_seed(1)
        module = transformers.AutoModelForCausalLM.from_config(config)
        module.to(torch.bfloat16).save_pretrained(found[kind])
        for file in checkpoint_path.glob("tokenizer*"):
            shutil.copyfile(file, found[kind] / file.name)
    return found


def loaded(engine):
    """dtype and rows as the module has them, whatever was foreseen."""
    model = engine._model
    if engine.description["forward"] == "native":
        return str(model.dtype).removeprefix("torch."), len(model._embed)
    embedding = model._module.get_input_embeddings().weight
    return str(model._module.dtype).removeprefix("torch."), len(embedding)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (kind, dtype)
        for kind in KINDS
        for dtype in ("auto", "float32", "bfloat16", "float16", "int8")
        if (kind, dtype) != ("GPT2", "int8")  # it has no torch.nn.Linear to quantise
    ],
)
def test_what_is_foreseen_is_what_is_loaded(kinds, kind, dtype):
    checkpoint = open_checkpoint(str(kinds[kind]))
    expected = foreseen(checkpoint, dtype, "cpu")
    assert expected is not None
    engine = TransformersEngine(checkpoint, ModelOptions(dtype=dtype))
    native = kind in NATIVE and dtype in ("auto", "float32", "bfloat16")
    assert engine.description["forward"] == ("native" if native else "transformers")
    assert loaded(engine) == expected
    if dtype != "int8":
        assert engine.description["dtype"] == expected.dtype
    engine.close()


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_auto_is_what_transformers_makes_of_it(kinds, kind):
    """Which does not depend on where the weights go."""
    from transformers import AutoModelForCausalLM

    checkpoint = open_checkpoint(str(kinds[kind]))
    module = AutoModelForCausalLM.from_pretrained(kinds[kind], dtype="auto")
    assert foreseen(checkpoint, "auto", "cuda") == Foreseen("bfloat16", 448)
    assert module.dtype is torch.bfloat16


def rewritten(folder, copy, **settings):
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text()) | settings
    (copy / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != "gone"}))
    return open_checkpoint(str(copy))


def test_what_the_configuration_says_counts_more_than_what_is_stored(kinds, tmp_path):
    from transformers import AutoModelForCausalLM

    checkpoint = rewritten(kinds["GPT2"], tmp_path / "copy", dtype="float16")
    module = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype="auto")
    assert foreseen(checkpoint, "auto", "cuda:1") == Foreseen("float16", 448)
    assert module.dtype is torch.float16


def test_where_the_configuration_is_silent_the_weights_are_waited_for(kinds, tmp_path):
    silent = rewritten(kinds["GPT2"], tmp_path / "silent", dtype="gone", torch_dtype="gone")
    assert foreseen(silent, "auto", "cuda") is None
    assert foreseen(silent, "auto", "cpu") == Foreseen("float32", 448)
    unsized = rewritten(kinds["Llama"], tmp_path / "unsized", vocab_size="gone")
    assert foreseen(unsized, "float32", "cpu") is None
    own = rewritten(kinds["Llama"], tmp_path / "own", rope_theta=1e4)
    assert foreseen(own, "float32", "cpu") is not None


def test_keys_of_a_model_that_had_to_be_waited_for_are_the_same(
    monkeypatch, kinds, checkpoint_path
):
    known = open_path(kinds["GPT2"])
    monkeypatch.setattr(engine_module, "foreseen", lambda *_: None)
    waited = open_path(kinds["GPT2"])
    assert waited._loading.done
    keys = [[p.key for p in e.prepare(NAMES, REQUESTS)] for e in (known, waited)]
    assert keys[0] == keys[1]
