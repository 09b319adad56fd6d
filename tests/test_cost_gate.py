"""The gate on speed and memory: planted slowdowns, other machines, and the command itself."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from bench_factory import make_bench, make_configuration, on_other
from runs_factory import make_record, make_run, on_disk

from evalsuite.cost_gate import gate_cost, parse_growth
from evalsuite.errors import BadOption, DataMissing, RunDamaged, RunsIncomparable, UnknownName
from evalsuite.measurements import (
    BENCH,
    Workload,
    named_configuration,
    newest_of,
    open_bench,
    write_bench,
)


def judged(speed: float, *, noise: float = 0.01, memory: float = 500e6, rounds: int = 8, **margins):
    """A candidate of that speed against a baseline of 1,000 tokens/s, measured at another time."""
    one = make_bench("a", [make_configuration("a", noise=noise, rounds=rounds, seed=1)])
    other = make_bench(
        "b",
        [make_configuration("b", speed=speed, memory=memory, noise=noise, rounds=rounds, seed=2)],
    )
    margins = margins or {"max_slowdown": 0.05}
    return gate_cost((one, one.configurations[0]), (other, other.configurations[0]), **margins)


@pytest.mark.parametrize(
    ("speed", "noise", "outcome"),
    [
        (1000, 0.01, "pass"),
        (1500, 0.10, "pass"),
        (980, 0.005, "pass"),
        (800, 0.01, "regression"),
        (940, 0.005, "regression"),
        (1000, 0.15, "inconclusive"),
        (960, 0.05, "inconclusive"),
    ],
)
def test_planted_slowdowns(speed, noise, outcome):
    verdict = judged(speed, noise=noise)
    [found] = verdict.quantities
    assert verdict.outcome == found.outcome == outcome, found.reason
    assert found.low <= found.factor <= found.high
    assert found.low <= 1000 / speed * 1.1
    assert verdict.exit_code == {"pass": 0, "regression": 1, "inconclusive": 3}[outcome]


def test_how_often_a_slower_candidate_passes():
    """Exactly at the margin, a pass is an error; two and a half in a hundred are allowed."""
    passed = 0
    for seed in range(100):
        one = make_bench("a", [make_configuration("a", noise=0.03, seed=seed)])
        other = make_bench("b", [make_configuration("b", speed=950, noise=0.03, seed=seed + 1000)])
        verdict = gate_cost(
            (one, one.configurations[0]), (other, other.configurations[0]), max_slowdown=1 / 19
        )
        passed += verdict.outcome == "pass"
    assert passed <= 7


@pytest.mark.parametrize(("memory", "outcome"), [(500e6, "pass"), (600e6, "regression")])
def test_memory(memory, outcome):
    assert judged(1000, memory=memory, max_memory_growth=0.05).outcome == outcome


def test_both_are_judged_and_the_worst_counts():
    verdict = judged(1000, memory=600e6, max_slowdown=0.05, max_memory_growth=0.05)
    assert [found.outcome for found in verdict.quantities] == ["pass", "regression"]
    assert (verdict.outcome, verdict.exit_code) == ("regression", 1)
    assert "peak" in verdict.reason


def test_too_few_rounds_settle_nothing():
    verdict = judged(500, rounds=3)
    assert verdict.outcome == "inconclusive"
    assert "rounds" in verdict.quantities[0].reason
    assert math.isnan(verdict.quantities[0].low)


def test_side_by_side_the_machines_drift_cancels():
    """Rounds that differ threefold, a candidate a tenth slower in each of them."""
    drift = [[1000.0 / d] for d in (1, 1.4, 1.9, 2.3, 2.7, 3.0)]
    slower = [[x[0] / 1.1] for x in drift]

    def configured(label, speeds):
        plain = make_configuration(label)
        from evalsuite.measurements import quantity

        speed = quantity(
            "mixed", "tokens_per_second", "tokens/s", speeds, higher_is_better=True, role="speed"
        )
        return type(plain)(label=label, model=label, fingerprint="", quantities=(speed,))

    both = make_bench("both", [configured("a", drift), configured("b", slower)])
    one, other = both.configurations
    assert gate_cost((both, one), (both, other), max_slowdown=0.05).outcome == "regression"
    apart = make_bench("apart", [other])
    assert gate_cost((both, one), (apart, other), max_slowdown=0.05).outcome == "inconclusive"


@pytest.mark.parametrize(
    "change", [{"cpu": "Another"}, {"used": 2}, {"gpus": ("H200",)}, {"memory_gib": 16}]
)
def test_other_hardware_is_refused(change):
    one = make_bench("a", [make_configuration("a")])
    other = make_bench("b", [make_configuration("b")], hardware=on_other(**change))
    with pytest.raises(RunsIncomparable, match=next(iter(change))):
        gate_cost((one, one.configurations[0]), (other, other.configurations[0]), max_slowdown=1)


def test_other_lengths_are_refused():
    one = make_bench("a", [make_configuration("a")])
    longer = (Workload(name="mixed", requests=4, prompt_tokens=256, answer_tokens=16),)
    other = make_bench("b", [make_configuration("b")], workloads=longer)
    with pytest.raises(RunsIncomparable, match="same workload"):
        gate_cost((one, one.configurations[0]), (other, other.configurations[0]), max_slowdown=1)


def test_other_software_is_a_note():
    one = make_bench("a", [make_configuration("a")])
    other = make_bench("b", [make_configuration("b")], environment={"torch": "2.14"})
    verdict = gate_cost(
        (one, one.configurations[0]), (other, other.configurations[0]), max_slowdown=1
    )
    assert any("torch 2.13 and 2.14" in note for note in verdict.notes)


def test_a_configuration_that_failed_fails_the_gate():
    one = make_bench("a", [make_configuration("a")])
    other = make_bench("b", [make_configuration("b", failure="E302 its process ended with -9")])
    verdict = gate_cost(
        (one, one.configurations[0]), (other, other.configurations[0]), max_slowdown=1
    )
    assert (verdict.outcome, verdict.exit_code) == ("failed", 4)


@pytest.mark.parametrize("text", ["5", "1pt", "-5%", "five", ""])
def test_margins_are_shares(text):
    with pytest.raises(BadOption, match="--max-slowdown"):
        parse_growth(text, "--max-slowdown")
    assert parse_growth("5%", "") == 0.05


def test_a_record_comes_back_as_it_was_written(tmp_path):
    bench = make_bench("a", [make_configuration("a", rounds=2), make_configuration("b b")])
    folder = write_bench(tmp_path, bench)
    again = open_bench(folder)
    assert math.isnan(again.configurations[0].quantities[0].low)
    assert again.configurations[1] == bench.configurations[1]
    assert named_configuration(f"{folder}:b b")[1].label == "b b"
    with pytest.raises(UnknownName, match="'b b'"):
        named_configuration(f"{folder}:b")
    with pytest.raises(UnknownName, match="append"):
        named_configuration(str(folder))
    with pytest.raises(DataMissing, match="bench-a"):
        named_configuration(str(tmp_path / "bench-aa"))


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"schema": 99}', b'{"configurations": [1]}'])
def test_damaged_records_say_where(tmp_path, content):
    (tmp_path / BENCH).write_bytes(content)
    with pytest.raises(RunDamaged, match=BENCH):
        open_bench(tmp_path)


@pytest.fixture
def records(tmp_path):
    """Two runs with scores, and a record that measured both checkpoints and a third."""
    runs = []
    for name in ("old", "new"):
        run = make_run(
            name,
            [make_record(f"q{n}") for n in range(20)],
            engine={"name": "transformers", "dtype": "float32"},
        )
        runs.append(on_disk(run, tmp_path))
    old, new = (run.manifest.checkpoint.fingerprint for run in runs)
    bench = make_bench(
        "both",
        [
            make_configuration("old", fingerprint=old, seed=1),
            make_configuration("new", fingerprint=new, seed=2, speed=700),
            make_configuration("new int8", fingerprint=new, seed=3, dtype="int8"),
        ],
    )
    write_bench(tmp_path, bench)
    return runs, tmp_path / bench.bench_id


def gate(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "evalsuite", "gate", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_record_is_found_beside_the_runs(records):
    runs, folder = records
    (bench, one), (_, other) = newest_of(*runs)
    assert (bench.bench_id, one.label, other.label) == (folder.name, "old", "new")


def test_the_command_on_scores_and_costs_together(records):
    runs, _ = records
    sides = ["--baseline", runs[0].path, "--candidate", runs[1].path]
    done = gate(*sides, "--max-drop", "30pt", "--max-slowdown", "5%", "--max-memory-growth", "5%")
    assert done.returncode == 1, done.stderr
    assert "PASS         quiz accuracy" in done.stdout
    assert "REGRESSION   mixed tokens_per_second" in done.stdout
    assert gate(*sides, "--max-drop", "30pt", "--max-memory-growth", "5%").returncode == 0


def test_the_command_on_named_configurations(records):
    _, folder = records
    sides = ["--baseline-bench", f"{folder}:old", "--candidate-bench", f"{folder}:new int8"]
    done = gate(*sides, "--max-slowdown", "5%", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cost"]["outcome"] == "pass"
    done = gate(*sides[:2], "--max-slowdown", "5%")
    assert (done.returncode, "--candidate-bench" in done.stderr) == (2, True)
    done = gate(*sides)
    assert (done.returncode, "--max-drop" in done.stderr) == (2, True)
