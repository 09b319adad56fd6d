"""Load on a real server whose delays are known."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scipy import stats

from evalsuite.bench.load import Limits, arrivals
from evalsuite.bench.online import Load, bench_online
from evalsuite.bench.workload import Lengths
from evalsuite.errors import BadOption, EngineUnavailable
from evalsuite.report.bench_chart import bench_svg
from evalsuite.report.bench_table import print_bench

SERVER = Path(__file__).with_name("paced_server.py")
FIRST, GAP = 0.08, 0.03
SLACK = 0.25
"""Seconds that a busy machine may add to a delay."""


@pytest.fixture
def serve(tmp_path):
    processes = []

    def start(*options: str) -> tuple[str, Path]:
        port, log = tmp_path / f"port{len(processes)}", tmp_path / f"log{len(processes)}"
        command = [sys.executable, str(SERVER), str(port), str(log)]
        command += ["--first", str(FIRST), "--gap", str(GAP), *options]
        processes.append(subprocess.Popen(command))
        end = time.monotonic() + 60
        while not port.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        return f"http://127.0.0.1:{port.read_text()}/v1", log

    yield start
    for process in processes:
        process.kill()
        process.wait()


def load(address: str, rates=(4.0,), **changes) -> Load:
    fields = {
        "base_url": address,
        "rates": rates,
        "lengths": Lengths(prompt_tokens=20, answer_tokens=6, requests=8),
        "rounds": 1,
    }
    return Load(**(fields | changes))


def value(bench, workload: str, name: str) -> float:
    return bench.configurations[0].find(workload, name).value


def test_delays_are_those_of_the_server(serve, capsys):
    address, log = serve()
    limits = Limits(ttft=5.0, tpot=5.0)
    bench, code = bench_online(["paced"], load(address, limits=limits), ("evalsuite",), print)
    assert code == 0
    assert FIRST <= value(bench, "4/s", "ttft_p50") < FIRST + SLACK
    assert GAP <= value(bench, "4/s", "tpot_p50") < GAP + SLACK / 5
    assert GAP * 0.9 <= value(bench, "4/s", "itl_p50") < GAP + SLACK
    assert FIRST + 5 * GAP <= value(bench, "4/s", "latency_p50") < FIRST + 5 * GAP + SLACK
    assert value(bench, "4/s", "failed") == 0
    assert value(bench, "4/s", "goodput") == value(bench, "4/s", "requests_per_second")
    assert value(bench, "4/s", "answer_tokens_per_second") == pytest.approx(
        6 * value(bench, "4/s", "requests_per_second")
    )
    asked = json.loads(log.read_text())[-8:]
    assert all(len(entry["body"]["prompt"].split()) == 20 for entry in asked)
    assert all(entry["body"]["ignore_eos"] for entry in asked)
    assert len({entry["body"]["prompt"] for entry in asked}) == 8
    print_bench(bench, "here")
    assert "paced" in capsys.readouterr().out
    assert "first token" in bench_svg(bench)


def test_requests_arrive_when_they_should(serve):
    address, log = serve()
    bench_online(["paced"], load(address, rates=(5.0,)), (), lambda text: None)
    at = [entry["at"] for entry in json.loads(log.read_text())[-8:]]
    planned = arrivals(5.0, 8, "0 0 5.0")
    gaps = [b - a for a, b in itertools.pairwise(at)]
    expected = [b - a for a, b in itertools.pairwise(planned)]
    assert sum(gaps) == pytest.approx(sum(expected), abs=SLACK)
    assert (
        sorted(range(7), key=gaps.__getitem__)[-1] == sorted(range(7), key=expected.__getitem__)[-1]
    )


def test_a_server_that_cannot_keep_up_makes_them_wait(serve):
    """One at a time, a quarter of a second each: four a second at most, whatever arrives."""
    address, _ = serve("--one-at-a-time")
    limits = Limits(ttft=FIRST + SLACK)
    bench, _ = bench_online(
        ["paced"], load(address, rates=(1.0, math.inf), limits=limits), (), lambda text: None
    )
    service = FIRST + 5 * GAP
    assert value(bench, "all at once", "requests_per_second") < 1 / service
    waited = 7 * service
    assert value(bench, "all at once", "ttft_p99") > 0.9 * waited
    assert value(bench, "all at once", "ttft_p99") > 2 * value(bench, "1/s", "ttft_p50")
    assert value(bench, "all at once", "goodput") < 0.5 * value(
        bench, "all at once", "requests_per_second"
    )


def test_a_strict_server_is_asked_without_what_it_does_not_know(serve):
    address, log = serve("--strict")
    bench, code = bench_online(["paced"], load(address), (), lambda text: None)
    assert (code, value(bench, "4/s", "failed")) == (0, 0)
    assert "ignore_eos" not in json.loads(log.read_text())[-1]["body"]


def test_failures_are_counted_and_the_key_is_not_shown(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-key")
    address, _ = serve("--fail-after", "4")
    bench, code = bench_online(["paced"], load(address), (), lambda text: None)
    assert (code, value(bench, "4/s", "failed")) == (0, 5)
    assert any("5 of 8 requests failed" in warning for warning in bench.warnings)
    assert "secret" not in repr(bench)


def test_a_server_that_dies_leaves_a_record(serve):
    address, _ = serve("--fail-after", "1")
    bench, code = bench_online(["paced"], load(address), (), lambda text: None)
    assert code == 4
    assert "no request was answered" in bench.configurations[0].failure


def test_nobody_there_is_said_at_once():
    with pytest.raises(EngineUnavailable, match="--model"):
        bench_online(["m"], load("http://127.0.0.1:9/v1"), (), lambda text: None)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8000", "ftp://x", "http://user:pass@x/v1", "http://x/?key=1", "http://[x"],
)
def test_addresses_without_host_or_with_secrets_are_refused(address):
    with pytest.raises(BadOption, match="--base-url"):
        bench_online(["m"], load(address), (), lambda text: None)


def test_arrivals_are_a_poisson_process():
    moments = arrivals(8.0, 2000, "x")
    gaps = [b - a for a, b in itertools.pairwise(moments)]
    assert stats.kstest(gaps, stats.expon(scale=1 / 8).cdf).pvalue > 0.001
    assert arrivals(8.0, 5, "x") == moments[:5]
    assert arrivals(math.inf, 3, "x") == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("rates", ["0", "-1", "fast", "nan"])
def test_rates_that_are_none_are_refused(rates):
    command = [sys.executable, "-m", "evalsuite", "bench", "--model", "m", "--base-url"]
    command += ["http://127.0.0.1:9/v1", f"--rates={rates}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert (done.returncode, "--rates" in done.stderr) == (2, True), done.stderr
