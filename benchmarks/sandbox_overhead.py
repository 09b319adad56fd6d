"""What it costs to run a program: in the sandbox, in a plain process, in a new bubblewrap.

The program is a right answer of HumanEval's size with seven asserts. Every way runs the same number
of programs, two at a time, in turns.

    python benchmarks/sandbox_overhead.py [--programs 200] [--rounds 3] [--workers 1,2,4]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from evalsuite.sandbox import Limits, Program, open_sandbox
from evalsuite.sandbox.bubblewrap import isolated_command

SOLUTION = """
from typing import List

def has_close_elements(numbers: List[float], threshold: float) -> bool:
    numbers = sorted(numbers)
    return any(b - a < threshold for a, b in zip(numbers, numbers[1:]))
"""
CHECKS = """
def check(candidate):
    assert candidate([1.0, 2.0, 3.9, 4.0, 5.0, 2.2], 0.3) == True
    assert candidate([1.0, 2.0, 3.9, 4.0, 5.0, 2.2], 0.05) == False
    assert candidate([1.0, 2.0, 5.9, 4.0, 5.0], 0.95) == True
    assert candidate([1.0, 2.0, 5.9, 4.0, 5.0], 0.8) == False
    assert candidate([1.0, 2.0, 3.0, 4.0, 5.0, 2.0], 0.1) == True
    assert candidate([1.1, 2.2, 3.1, 4.1, 5.1], 1.0) == True
    assert candidate([1.1, 2.2, 3.1, 4.1, 5.1], 0.5) == False

check(has_close_elements)
"""
WHOLE = SOLUTION + CHECKS


def processes(command: list[str], programs: int) -> float:
    """Seconds for ``programs`` processes, two at a time."""
    environment = {"PATH": os.environ["PATH"]}
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda _: subprocess.run(command, check=True, env=environment), range(programs)
            )
        )
    return time.monotonic() - begun


def sandboxed(programs: int, workers: int) -> float:
    """Seconds for as many in a sandbox that is open; opening it is not counted."""
    program = Program(solution=SOLUTION, checks=CHECKS, entry="has_close_elements")
    with open_sandbox(workers=workers) as sandbox:
        assert all(v.passed for _, v in sandbox.run([program] * workers))
        begun = time.monotonic()
        assert all(v.passed for _, v in sandbox.run([program] * programs))
        return time.monotonic() - begun


def opening() -> float:
    """Seconds until a sandbox of two workers has judged its probe."""
    begun = time.monotonic()
    with open_sandbox(workers=2):
        return time.monotonic() - begun


def ways(workers: list[int]) -> dict[str, Callable[[int], float]]:
    """Each way as a function of the number of programs."""
    plain = [sys.executable, "-I", "-c", WHOLE]
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        raise SystemExit("bubblewrap is not installed")
    isolated = isolated_command(bubblewrap, Limits())
    cold = [*isolated[: isolated.index(sys.executable)], *plain]
    found: dict[str, Callable[[int], float]] = {
        "python -c": lambda programs: processes(plain, programs),
        "bwrap python -c": lambda programs: processes(cold, programs),
    }
    for count in workers:
        found[f"sandbox, {count} workers"] = lambda programs, count=count: sandboxed(
            programs, count
        )  # type: ignore[misc]
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", default="1,2,4")
    options = parser.parse_args()
    every = ways([int(number) for number in options.workers.split(",")])
    walls: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(options.rounds):
        for name, measure in every.items():
            walls[name].append(measure(options.programs) / options.programs)
    print(f"opening: {opening():.2f} s; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    least = statistics.median(walls["python -c"])
    for name, seconds in walls.items():
        wall = statistics.median(seconds)
        print(
            f"{name:20} {1 / wall:6.1f} programs/s, {wall * 1000:5.1f} ms each, {wall / least:.2f}×"
        )


if __name__ == "__main__":
    main()
