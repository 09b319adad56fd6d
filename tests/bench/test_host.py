"""The machine beside the model: processor time, other processes, energy, the signature."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalsuite.bench.energy import EnergyCounter
from evalsuite.bench.hardware import hardware, software
from evalsuite.bench.host import BUSY, Clock, Span, complaint

BURN = "import time\nwhile time.process_time() < 0.6: pass\nprint(1, flush=True)\nimport sys; sys.stdin.read()"


def test_processor_time_of_a_child_that_still_lives_counts():
    clock = Clock()
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        span = clock.span()
        process.stdin.close()
    assert 0.55 <= span.cpu_seconds <= span.seconds * os.cpu_count() + 0.1


def test_sleeping_takes_no_processor_time():
    clock = Clock()
    time.sleep(0.2)
    span = clock.span()
    assert span.seconds == pytest.approx(0.2, abs=0.15)
    assert span.cpu_seconds < 0.1
    assert 0 <= span.others <= 1


def test_others_are_seen_but_not_ourselves():
    """A process that is no child of ours burns a core; ours burns another."""
    burn = "import time, os\nif os.fork(): os._exit(0)\nend = time.monotonic() + 3\nwhile time.monotonic() < end: pass"
    subprocess.run([sys.executable, "-c", burn], check=True, stdout=subprocess.DEVNULL)
    clock = Clock()
    while clock.span().cpu_seconds < 0.4:
        pass
    span = clock.span()
    total = os.cpu_count()
    assert span.others > 0.3 / total
    assert span.others + span.cpu_seconds / span.seconds / total < 1.1


def test_complaints_are_weighted_by_time():
    quiet = Span(seconds=10, cpu_seconds=9)
    busy = Span(seconds=10, cpu_seconds=2, others=0.8)
    brief = Span(seconds=0.1, cpu_seconds=0.1, others=0.8)
    stolen = Span(seconds=10, cpu_seconds=9, stolen=0.1)
    assert complaint([quiet]) == complaint([]) == complaint([quiet, brief]) == ""
    assert "40%" in complaint([quiet, busy])
    assert "hypervisor" in complaint([stolen])
    assert BUSY < 0.4


def zone(folder, name, microjoules, most=1_000_000):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{microjoules}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{most}\n")


def test_energy_of_all_packages_over_a_counter_that_runs_over(tmp_path):
    zone(tmp_path, "intel-rapl:0", 100_000)
    zone(tmp_path, "intel-rapl:1", 900_000)
    zone(tmp_path, "intel-rapl:0:0", 5)
    counter = EnergyCounter(tmp_path)
    zone(tmp_path, "intel-rapl:0", 350_000)
    zone(tmp_path, "intel-rapl:1", 50_000)
    zone(tmp_path, "intel-rapl:0:0", 999_999)
    assert counter.joules() == pytest.approx(0.25 + 0.15)


def test_energy_that_cannot_be_read_is_none(tmp_path):
    assert EnergyCounter(tmp_path / "nothing").joules() is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert EnergyCounter(tmp_path).joules() is None


def test_the_signature_names_this_machine():
    found = hardware(used=2)
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    if "model name" in text:
        assert f"model name\t: {found.cpu}\n" in text
    assert found.cpu
    assert found.threads == os.cpu_count()
    assert all(f" {feature}" in text for feature in found.features)
    assert f"used:{found.used}" in found.signature
    assert found == hardware(used=2), "it does not change from moment to moment"
    assert {"torch", "transformers", "python"} <= software().keys()
