"""Every program of the corpus is contained, judged rightly, and leaves nothing behind."""

from __future__ import annotations

import time

import psutil
import pytest
from corpus import CASES, LIMITS
from host import Host, in_sandbox

from evalsuite.sandbox import Limits, Program, open_sandbox

FLOODED = LIMITS.output_bytes
IDLE = 4 * (2 + 1 + 2 * 2)
"""Processes of four workers between programs: bubblewrap's two, the zygote, two in each of two cells."""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    place = Host(tmp_path_factory.mktemp("host"))
    yield place
    place.close()


def programs(host, names):
    return [
        Program(solution=host.filled_in(CASES[n].solution), checks=CASES[n].checks) for n in names
    ]


@pytest.fixture(scope="module")
def verdicts(host, bubblewrap):
    """All of the corpus at once, on more workers than processors since many only wait."""
    before = host.state()
    mine = {process.pid for process in in_sandbox()}
    with open_sandbox(limits=LIMITS, workers=4) as opened:
        names = list(CASES)
        found = {names[number]: verdict for number, verdict in opened.run(programs(host, names))}
        end = time.monotonic() + 10
        while (idle := len([p for p in in_sandbox() if p.pid not in mine])) > IDLE:
            if time.monotonic() > end:
                break
            time.sleep(0.1)
        found["idle"] = idle
    found["left"] = [p for p in in_sandbox() if p.pid not in mine]
    found["children"] = [c for c in psutil.Process().children(recursive=True) if c.pid not in mine]
    found["changed"] = {
        name: (before[name], now) for name, now in host.state().items() if now != before[name]
    }
    found["reached"] = list(host.reached)
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_program_gets_its_verdict(name, verdicts):
    case, verdict = CASES[name], verdicts[name]
    assert verdict.outcome in case.outcomes, verdict
    assert case.detail in verdict.detail, verdict
    assert verdict.wall_seconds < LIMITS.wall_seconds + 3
    assert len(verdict.detail) < 2_600
    assert len(verdict.where) < 2_600
    for text in (verdict.stdout, verdict.stderr):
        assert len(text.encode(errors="replace")) <= FLOODED * 4
    if verdict.outcome == "failed":
        assert verdict.detail


def test_nothing_is_left_running(verdicts):
    assert verdicts["idle"] == IDLE
    assert verdicts["left"] == []
    assert verdicts["children"] == []


def test_the_host_is_unchanged(verdicts):
    assert verdicts["changed"] == {}
    assert verdicts["reached"] == []


def test_there_are_programs_enough():
    assert len(CASES) >= 60


def test_the_attempts_do_reach_out_where_nothing_holds_them(host):
    """Control: without isolation the same programs find the secret and the listeners."""
    names = ["secrets", "links", "sockets"]
    with open_sandbox("none", limits=Limits(wall_seconds=30.0), workers=1) as opened:
        found = {names[n]: v for n, v in opened.run(programs(host, names))}
    reached = {name: verdict.detail for name, verdict in found.items()}
    assert all(verdict.outcome == "failed" for verdict in found.values()), found
    for label in ("file", "folder", "processes", "harness", "its own file"):
        assert f"'{label}'" in reached["secrets"], reached
    for label in ("symbolic", "hard", "up", "working"):
        assert f"'{label}'" in reached["links"], reached
    for label in ("tcp", "udp", "unix", "abstract"):
        assert f"'{label}'" in reached["sockets"], reached
    for _ in range(100):
        if len(host.reached) >= 4:
            break
        time.sleep(0.1)
    assert len(host.reached) >= 4
