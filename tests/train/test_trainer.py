"""The training loop: against plain PyTorch, killed, damaged, spiked, and out of room."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from evalsuite_train.curves import read_log
from evalsuite_train.errors import Diverged, TrainError
from evalsuite_train.loss import IGNORED, Batch, measure
from evalsuite_train.model import Shape, new_model
from evalsuite_train.schedule import rate
from evalsuite_train.state import NAME, NEW, PARTS, PREVIOUS, WHOLE, load_state
from evalsuite_train.trainer import Optimisation, train
from torch.nn import functional

SHAPE = Shape(32, 2, 2, 1, 64)
ROWS = 128
SETTINGS = Optimisation(
    steps=12,
    learning_rate=3e-3,
    warmup=3,
    precision="fp32",
    save_every=5,
    log_every=2,
    peak_tflops=1.0,
)
Stream = Callable[[int], Iterator[Batch]]


def changed(**settings: object) -> Optimisation:
    return msgspec.structs.replace(SETTINGS, **settings)


def make_batch(number: int, rows: int = 2, length: int = 24) -> Batch:
    """A batch that can be learnt: every id is followed by the next one, from a start by number."""
    torch.manual_seed(number)
    ids = (torch.randint(3, 60, (rows, 1)) + torch.arange(length + 1)) % 60 + 3
    return Batch(ids[:, :-1], ids[:, 1:].clone())


def stream(first: int) -> Iterator[Batch]:
    while True:
        yield make_batch(first)
        first += 1


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# ---- the loss


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_the_loss_and_its_gradients_are_those_of_plain_cross_entropy(share: float) -> None:
    model = new_model(SHAPE, ROWS, seed=1)
    batch = make_batch(1, rows=3)
    batch.targets[torch.rand(batch.targets.shape) < share] = IGNORED
    measured = measure(model, batch)
    measured.total.backward()
    ours = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    logits = model(batch.inputs).logits
    total = functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")
    total.backward()
    torch.testing.assert_close(measured.total, total)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-4)
    learnt = batch.targets != IGNORED
    assert measured.learnt == int(learnt.sum())
    assert measured.correct == int((logits.argmax(2) == batch.targets)[learnt].sum())


def test_bf16_gradients_are_near_those_of_fp32() -> None:
    model = new_model(SHAPE, ROWS, seed=1)
    batch = make_batch(1, rows=3)
    grads = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            measure(model, batch).total.backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert functional.cosine_similarity(grads[0], grads[1], dim=0) > 0.999


def test_a_frozen_output_layer_and_one_wrapped_by_lora_learn_the_same_loss() -> None:
    from peft import LoraConfig, get_peft_model

    model = new_model(SHAPE, ROWS, seed=1)
    batch = make_batch(2)
    plain = float(measure(model, batch).total.detach())
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    measured = measure(tuned, batch)  # LoRA starts at zero: nothing has changed yet
    measured.total.backward()
    assert float(measured.total.detach()) == pytest.approx(plain, rel=1e-6)
    assert all(p.grad is not None for p in tuned.parameters() if p.requires_grad)


def test_pitfall_masked_positions_counted_as_wrong(tmp_path: Path) -> None:
    """Accuracy is over learnt tokens: masking more of a batch must not lower it."""
    model = new_model(SHAPE, ROWS, seed=1)
    train(model, stream, changed(steps=60, learning_rate=1e-2), tmp_path, seed=1)
    batch = make_batch(10_000, rows=8)
    measured = measure(model, batch)
    assert measured.correct / measured.learnt > 0.9
    batch.targets[:, :20] = IGNORED
    masked = measure(model, batch)
    assert masked.learnt == 8 * 4
    assert masked.correct / masked.learnt > 0.9
    assert read_log(tmp_path / "log.jsonl")[-1]["accuracy"] > 0.9


# ---- the step


@pytest.mark.parametrize("uneven", [False, True])
def test_accumulation_is_the_large_batch(tmp_path: Path, uneven: bool) -> None:
    """Four small batches make the step of one large batch, also with learnt tokens spread unevenly."""

    def small(first: int) -> Iterator[Batch]:
        for number in range(first, 10_000):
            batch = make_batch(number)
            if uneven:
                batch.targets[:, : 6 * (number % 4)] = IGNORED
            yield batch

    def large(first: int) -> Iterator[Batch]:
        parts = small(4 * first)
        while True:
            group = [next(parts) for _ in range(4)]
            yield Batch(torch.cat([b.inputs for b in group]), torch.cat([b.targets for b in group]))

    one, four = new_model(SHAPE, ROWS, seed=1), new_model(SHAPE, ROWS, seed=1)
    train(one, large, changed(steps=3, epsilon=1e-4), tmp_path / "1", seed=1)
    train(four, small, changed(steps=3, epsilon=1e-4, accumulation=4), tmp_path / "4", seed=1)
    for left, right in zip(one.parameters(), four.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)
    logs = [read_log(tmp_path / name / "log.jsonl")[-1] for name in "14"]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-4)
    assert logs[0]["tokens"] == logs[1]["tokens"]


def test_a_step_is_that_of_torch_adamw_with_warm_up_and_cosine(tmp_path: Path) -> None:
    model, plain = new_model(SHAPE, ROWS, seed=1), new_model(SHAPE, ROWS, seed=1)
    train(model, stream, SETTINGS, tmp_path, seed=1)
    groups = [
        {"params": [p for p in plain.parameters() if p.dim() > 1], "weight_decay": 0.05},
        {"params": [p for p in plain.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-8)
    for step, batch in zip(range(12), stream(0), strict=False):
        for group in optimizer.param_groups:
            cosine = 0.05 + 0.95 * (1 + math.cos(math.pi * (step - 3) / 9)) / 2
            group["lr"] = 3e-3 * (min(1, (step + 1) / 3) if step < 3 else cosine)
        optimizer.zero_grad()
        logits = plain(batch.inputs).logits.flatten(0, 1)
        functional.cross_entropy(logits, batch.targets.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
    for left, right in zip(model.parameters(), plain.parameters(), strict=True):
        # Adam divides by the gradient's size: entries near zero carry rounding to the step's height
        assert (left - right).abs().mean() < 1e-5


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_the_schedule_ends_at_its_floor(name: str) -> None:
    settings = changed(steps=100, warmup=10, schedule=name, minimum_rate=0.1, learning_rate=1.0)
    rates = [rate(step, settings) for step in range(101)]
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.55)  # half way both are at the middle
    assert rates[100] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_learns_with_float32_master_weights(tmp_path: Path, precision: str) -> None:
    model = new_model(SHAPE, ROWS, seed=1)
    train(
        model, stream, changed(steps=30, learning_rate=1e-2, precision=precision), tmp_path, seed=1
    )
    rows = read_log(tmp_path / "log.jsonl")
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    if precision == "fp16":
        state = load_state(tmp_path)
        assert state is not None
        assert state["scaler"]["scale"] > 1


def test_fp16_overflow_lowers_the_scale_and_is_no_spike(tmp_path: Path) -> None:
    model = new_model(SHAPE, ROWS, seed=1)
    with torch.no_grad():
        model.model.norm.weight *= 30  # gradients that overflow at the first scale of 65,536
    train(model, stream, changed(steps=8, precision="fp16"), tmp_path, seed=1)
    state = load_state(tmp_path)
    assert state is not None
    assert state["scaler"]["scale"] < 65536
    assert not [row for row in read_log(tmp_path / "log.jsonl") if "event" in row]
    assert all(p.isfinite().all() for p in model.parameters())


# ---- going on


def test_row_continual_pre_training(tmp_path: Path) -> None:
    """Killed with SIGKILL at any moment and resumed, the weights are those of an unbroken run."""
    script = Path(__file__).with_name("killed_training.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    digests = {name: digest for name, (digest, _) in report.items()}
    assert len(digests) == 4
    assert set(digests.values()) == {digests["never"]}
    assert "going on from step 10" in report["while writing"][1]
    assert "going on from step" not in report["never"][1]
    logs = {read_steps(tmp_path / name) for name in ("whole", "0", "1", "2")}
    assert logs == {tuple(range(2, 25, 2))}


def read_steps(folder: Path) -> tuple[int, ...]:
    return tuple(row["step"] for row in read_log(folder / "log.jsonl"))


def interrupted(out: Path, at: int) -> None:
    """Train until micro-batch ``at`` raises, as a crash would."""

    def breaks(first: int) -> Iterator[Batch]:
        for number in range(first, at):
            yield make_batch(number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(new_model(SHAPE, ROWS, seed=1), breaks, SETTINGS, out, seed=1)


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "other"])
def test_a_damaged_state_falls_back_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    whole, resumed = new_model(SHAPE, ROWS, seed=1), new_model(SHAPE, ROWS, seed=1)
    train(whole, stream, SETTINGS, tmp_path / "whole", seed=1)
    out = tmp_path / "resumed"
    interrupted(out, 11)  # saved at 0, 5 and 10
    content = bytearray((out / NAME).read_bytes())
    middle = len(content) // 2
    content[middle] ^= 0xFF
    torch.save({"not": "a state"}, tmp_path / "other.pt")
    damaged = {
        "truncated": bytes(content[:middle]),
        "empty": b"",
        "flipped": bytes(content),
        "other": (tmp_path / "other.pt").read_bytes(),
    }
    (out / NAME).write_bytes(damaged[damage])
    train(resumed, stream, SETTINGS, out, seed=1)
    said = capsys.readouterr().out
    assert f"{out / NAME} is not whole" in said
    assert "going on from step 5" in said
    assert same(weights(whole), weights(resumed))
    assert read_steps(out) == tuple(range(2, 13, 2))


def test_states_all_damaged_are_named(tmp_path: Path) -> None:
    interrupted(tmp_path, 11)
    for name in (NAME, PREVIOUS):
        (tmp_path / name).write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(TrainError, match=r"no saved state is whole(.|\n)*remove these files"):
        train(new_model(SHAPE, ROWS, seed=1), stream, SETTINGS, tmp_path, seed=1)


def test_a_state_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"step": 3, "position": Attack()}, tmp_path / NAME)
    with pytest.raises(TrainError, match="no saved state is whole"):
        train(new_model(SHAPE, ROWS, seed=1), stream, SETTINGS, tmp_path, seed=1)
    assert not (tmp_path / "ran").exists()


def test_an_unfinished_training_does_not_go_on_with_other_settings(tmp_path: Path) -> None:
    interrupted(tmp_path, 11)
    model = new_model(SHAPE, ROWS, seed=1)
    with pytest.raises(TrainError, match=r"learning_rate 0\.003 \(now 0\.01\)"):
        train(model, stream, changed(learning_rate=0.01), tmp_path, seed=1)
    with pytest.raises(TrainError, match=r"data '' \(now 'others'\)"):
        train(model, stream, SETTINGS, tmp_path, seed=1, data="others")
    train(model, stream, changed(log_every=3), tmp_path, seed=1)  # how often it logs is free


def test_a_finished_training_with_other_settings_is_made_anew(tmp_path: Path) -> None:
    train(new_model(SHAPE, ROWS, seed=1), stream, SETTINGS, tmp_path, seed=1)
    assert train(new_model(SHAPE, ROWS, seed=1), stream, changed(steps=6), tmp_path, seed=1) == 6
    assert read_steps(tmp_path) == (2, 4, 6)


# ---- bad input


def test_a_full_disk_is_named_and_the_last_state_stands(tmp_path: Path) -> None:
    out = tmp_path / "run"
    interrupted(out, 7)
    before = (out / NAME).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # the state takes 300 kB
    try:
        with pytest.raises(TrainError, match=r"cannot save(.|\n)*last whole state") as fault:
            train(new_model(SHAPE, ROWS, seed=1), stream, SETTINGS, out, seed=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, kept)
    assert fault.value.where.endswith("step 10")
    assert (out / NAME).read_bytes() == before
    assert not (out / NEW).exists()


def test_a_folder_that_is_a_file_is_named_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainError, match="cannot save") as fault:
        train(new_model(SHAPE, ROWS, seed=1), stream, SETTINGS, tmp_path / "file", seed=1)
    assert "step 0" in fault.value.where


def test_data_that_end_and_steps_without_targets_are_named(tmp_path: Path) -> None:
    model = new_model(SHAPE, ROWS, seed=1)
    with pytest.raises(TrainError, match="the data ended at step 3 of 12"):
        train(
            model, lambda n: iter([make_batch(i) for i in range(n, 3)]), SETTINGS, tmp_path, seed=1
        )

    def masked(first: int) -> Iterator[Batch]:
        batch = make_batch(first)
        yield Batch(batch.inputs, torch.full_like(batch.targets, IGNORED))

    with pytest.raises(TrainError, match="step 1: no token"):
        train(model, masked, SETTINGS, tmp_path / "masked", seed=1)


def test_a_device_that_is_not_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no device 'cuda:99' here"):
        train(new_model(SHAPE, ROWS, seed=1), stream, changed(device="cuda:99"), tmp_path, seed=1)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("name", ["learning_rate", "peak_tflops"])
def test_a_rate_or_a_peak_that_is_no_number_above_0_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}, it must be a number above 0"):
        Optimisation(**{"steps": 1, "learning_rate": 1e-3, name: value})


@pytest.mark.parametrize("said", ["", "[]", '{"step": 2}', '{"step": "two", "processes": 2}'])
def test_a_state_in_parts_that_does_not_say_which_is_whole_is_named(
    tmp_path: Path, said: str
) -> None:
    (tmp_path / PARTS).mkdir()
    (tmp_path / PARTS / WHOLE).write_text(said)
    with pytest.raises(TrainError, match=r"whole\.json: .*\n.*remove .*state-parts"):
        load_state(tmp_path)


# ---- spikes

LONG = {"steps": 60, "save_every": 8, "log_every": 4}


def spiked(at: range) -> Stream:
    """The stream with garbage at some micro-batches: ids that follow no rule."""

    def batches(first: int) -> Iterator[Batch]:
        for number, batch in enumerate(stream(first), first):
            if number in at:
                torch.manual_seed(number)
                noise = torch.randint(3, 63, batch.targets.shape)
                yield Batch(batch.inputs, noise)
            else:
                yield batch

    return batches


def test_an_injected_spike_is_detected_skipped_and_rolled_back(tmp_path: Path) -> None:
    """The run equals one whose data never held the batches from the last state to the spike."""
    settings = changed(**LONG, learning_rate=1e-2)
    model = new_model(SHAPE, ROWS, seed=1)
    train(model, spiked(range(43, 44)), settings, tmp_path / "spiked", seed=1)
    rows = read_log(tmp_path / "spiked" / "log.jsonl")
    events = [row for row in rows if "event" in row]
    assert len(events) == 1
    assert events[0]["step"] == 44
    assert events[0]["back_to"] == 40
    assert events[0]["skipped"] == 4
    assert "usually" in events[0]["why"]
    assert [row["step"] for row in rows if "loss" in row] == list(range(4, 61, 4))

    def without(first: int) -> Iterator[Batch]:
        for number in range(first, 10_000):
            yield make_batch(number if number < 40 else number + 4)

    clean = new_model(SHAPE, ROWS, seed=1)
    train(clean, without, settings, tmp_path / "clean", seed=1)
    assert same(weights(model), weights(clean))
    assert not [row for row in read_log(tmp_path / "clean" / "log.jsonl") if "event" in row]


def test_a_run_killed_after_a_roll_back_takes_the_same_way_again(tmp_path: Path) -> None:
    settings = changed(**LONG, learning_rate=1e-2)
    whole, resumed = new_model(SHAPE, ROWS, seed=1), new_model(SHAPE, ROWS, seed=1)
    train(whole, spiked(range(43, 44)), settings, tmp_path / "whole", seed=1)

    def dies(first: int) -> Iterator[Batch]:
        for number, batch in enumerate(spiked(range(43, 44))(first), first):
            if number == 46:
                raise KeyboardInterrupt
            yield batch

    out = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        train(new_model(SHAPE, ROWS, seed=1), dies, settings, out, seed=1)
    train(resumed, spiked(range(43, 44)), settings, out, seed=1)
    assert same(weights(whole), weights(resumed))
    rows = [
        [{k: r.get(k) for k in ("step", "event", "loss")} for r in read_log(f / "log.jsonl")]
        for f in (out, tmp_path / "whole")
    ]
    assert rows[0] == rows[1]


def test_spikes_without_end_diverge_and_name_the_step(tmp_path: Path) -> None:
    model = new_model(SHAPE, ROWS, seed=1)
    settings = changed(**LONG, learning_rate=1e-2)
    with pytest.raises(Diverged, match=r"step 41: the loss is(.|\n)*6 times"):
        train(model, spiked(range(41, 10_000)), settings, tmp_path, seed=1)


def test_a_loss_that_is_no_number_is_rolled_back_then_diverges(tmp_path: Path) -> None:
    def poisoned(first: int) -> Iterator[Batch]:
        for number, batch in enumerate(stream(first), first):
            if number >= 7:
                with torch.no_grad():
                    model.model.norm.weight[0] = math.nan  # as a broken kernel would
            yield batch

    model = new_model(SHAPE, ROWS, seed=1)
    with pytest.raises(Diverged, match=r"step 6: the loss is nan") as fault:
        train(model, poisoned, SETTINGS, tmp_path, seed=1)
    assert "lower learning_rate" in fault.value.hint
    state = load_state(tmp_path)
    assert state is not None
    assert state["step"] == 5
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_a_learning_rate_far_too_high_is_caught(tmp_path: Path) -> None:
    model = new_model(SHAPE, ROWS, seed=1)
    with pytest.raises(Diverged):
        train(model, stream, changed(**LONG, learning_rate=1e30, warmup=40), tmp_path, seed=1)
