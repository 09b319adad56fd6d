"""Every run is measured: tokens, seconds by phase and memory, against independent counts."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from quiz_factory import AddingEngine, contestant_of, take, write_sums

from evalsuite.clock import now
from evalsuite.contestant import Contestant, EngineOptions, find_contestants
from evalsuite.engines.base import Prepared, Work
from evalsuite.ledger import Ledger, alone
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.record import Cost
from evalsuite.report.cost import cost_line, shown_bytes
from evalsuite.request import Choose, Chosen, Generate, Generated, Prompt, Score, Scored

MIB = 2**20

ALLOCATING = """
from evalsuite import memory

def touched(mib):
    block = bytearray(mib << 20)
    block[::4096] = bytes(len(block[::4096]))
    return block

touched(1)
memory.forget_peak()
before = memory.peak()
block = touched(96)
held = memory.resident()
del block
print(before, memory.peak(), held, memory.resident())
print(memory.forget_peak(), memory.peak())
"""


def test_the_peak_is_what_was_allocated_and_is_forgotten_on_demand():
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATING], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    before, peak, held, after = map(int, first.split())
    assert peak - before == pytest.approx(96 * MIB, abs=4 * MIB)
    assert held - after == pytest.approx(96 * MIB, abs=4 * MIB)
    assert second.split()[0] == "True"
    assert int(second.split()[1]) < before + 4 * MIB


def test_children_count_as_well():
    """An engine may keep its model in a process of its own."""
    child = "import sys; b = bytearray(80 << 20); b[::4096] = bytes(len(b[::4096])); print(1, flush=True); sys.stdin.read()"
    from evalsuite import memory

    before = memory.resident()
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        grown = memory.resident() - before
        assert memory.peak() >= before + 80 * MIB - 8 * MIB
        process.stdin.close()
    assert grown > 80 * MIB - 8 * MIB


PROMPT = (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("request_", "tails", "answer", "tokens"),
    [
        (Generate(Prompt("")), (), Generated("abc", token_ids=(7, 8, 9)), 5 + 2),
        (Generate(Prompt("")), (), Generated(""), 5),
        (Choose(Prompt(""), ("A", "B")), ((7,), (8,)), Chosen(0), 5),
        (Choose(Prompt(""), ("A", "B")), ((7, 8), (8, 9, 9)), Chosen(0), 5 + 1 + 5 + 2),
        (Choose(Prompt(""), ("A", "B")), ((7,), (8, 9)), Chosen(0), 5 + 5 + 1),
        (Score(Prompt(""), "x"), ((7, 8, 9),), Scored(-1.0, 3, False), 5 + 2),
    ],
)
def test_tokens_of_a_sample_that_shares_nothing(request_, tails, answer, tokens):
    prepared = Prepared("quiz/1", request_, key="k", prompt=PROMPT, tails=tails)
    assert alone(prepared, answer) == tokens


@pytest.fixture(scope="module")
def measured_run(roomy_checkpoint_path, tmp_path_factory):
    """Choices and texts; every token that is computed is looked up in torch's embedding, and counted."""
    patch = pytest.MonkeyPatch()
    tasks = [
        plan_task(TaskChoice(label="mcq"), limit=12),
        plan_task(TaskChoice(label="classification_zh"), limit=6),
    ]
    [contestant] = find_contestants(
        [str(roomy_checkpoint_path)], EngineOptions(device="cpu", dtype="float32")
    )
    counted = {"tokens": 0}

    def open_engine():
        import torch

        looked_up = torch.nn.functional.embedding

        def counting(ids, weight, *rest, **more):
            counted["tokens"] += ids.numel()
            return looked_up(ids, weight, *rest, **more)

        patch.setattr(torch.nn.functional, "embedding", counting)
        return contestant.open_engine()

    began = time.monotonic()
    run = take(
        Contestant(contestant.part, contestant.engine, open_engine),
        tasks,
        tmp_path_factory.mktemp("measured"),
    )
    patch.undo()
    return run, counted, time.monotonic() - began


def test_computed_tokens_are_those_that_went_through_the_model(measured_run):
    run, counted, _ = measured_run
    cost = run.manifest.cost
    assert cost.prefill_tokens + cost.decode_tokens == counted["tokens"]
    generated = [r.response for r in run.records() if isinstance(r.response, Generated)]
    assert generated
    assert cost.decode_tokens == sum(len(answer.token_ids) - 1 for answer in generated)


def test_asked_tokens_are_those_of_every_sample_by_itself(measured_run):
    run, _, _ = measured_run
    expected = 0
    for record in run.records():
        response = record.response
        if isinstance(response, Generated):
            expected += response.prompt_tokens + len(response.token_ids) - 1
        else:
            assert set(response.token_counts) == {1}
            expected += response.prompt_tokens
    assert run.manifest.cost.asked_tokens == expected


def test_phases_make_up_the_whole_time(measured_run):
    run, _, wall = measured_run
    seconds = run.manifest.seconds
    assert list(seconds) == ["start", "load", "plan", "prefill", "decode", "score"]
    assert all(taken > 0 for phase, taken in seconds.items() if phase != "start")
    assert wall - 2 < sum(seconds.values()) <= wall + 0.01
    cost = run.manifest.cost
    assert cost.decode_per_second == pytest.approx(cost.decode_tokens / seconds["decode"], rel=0.01)
    assert cost.peak_bytes > 100 * MIB


def test_it_stands_on_the_terminal(measured_run):
    line = cost_line(measured_run[0].manifest)
    for word in ("load", "prefill", "decode", "tokens asked", "computed", "peak memory", "iB"):
        assert word in line


def test_an_interrupted_run_adds_up(tmp_path):
    tasks = write_sums(tmp_path, 12)
    whole = take(AddingEngine(), tasks, tmp_path / "whole").manifest
    with pytest.raises(Exception, match="lost"):
        take(AddingEngine(breaks_after=5), tasks, tmp_path / "out")
    first = take_manifest(tmp_path / "out")
    assert first.seconds.keys() == {"start", "load", "plan", "answer", "score"}
    second = take(AddingEngine(), tasks, tmp_path / "out").manifest
    assert second.cost.asked_tokens == whole.cost.asked_tokens
    assert all(second.seconds[phase] >= taken for phase, taken in first.seconds.items())


def take_manifest(out: Path):
    from evalsuite.store import find_runs

    [run] = find_runs(out)
    return run.manifest


def test_an_engine_that_cannot_count_leaves_its_numbers_out(tmp_path):
    manifest = take(contestant_of(AddingEngine()), write_sums(tmp_path, 4), tmp_path).manifest
    assert (manifest.cost.prefill_tokens, manifest.cost.decode_per_second) == (None, None)
    assert "None" not in cost_line(manifest)


def test_time_that_an_engine_spends_beside_its_passes_is_not_lost():
    ledger = Ledger(now())
    ledger.seconds = {"load": 1.0, "answer": 10.0, "score": 2.0}
    phases = ledger.phases(Work(prefill_seconds=5.0, decode_seconds=4.0))
    assert phases == {"load": 1.0, "prefill": 6.0, "decode": 4.0, "score": 2.0}
    assert ledger.phases(Work())["answer"] == 10.0


def test_costs_of_two_starts():
    one = Cost(asked_tokens=10, prefill_tokens=8, peak_bytes=5)
    both = Cost(asked_tokens=20, prefill_tokens=12, peak_bytes=4).after(
        one, {"load": 9, "prefill": 4}
    )
    assert (both.asked_tokens, both.prefill_tokens, both.decode_tokens) == (30, 20, None)
    assert (both.prefill_per_second, both.asked_per_second, both.peak_bytes) == (5.0, 7.5, 5)


@pytest.mark.parametrize(
    ("count", "text"),
    [(512, "512 B"), (6144, "6.0 KiB"), (557 * MIB, "557 MiB"), (5 * 2**29, "2.5 GiB")],
)
def test_bytes_as_people_read_them(count, text):
    assert shown_bytes(count) == text
