"""Many programs at a time; none sees another; nothing outlives the harness, however it ends."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil
import pytest
from host import in_sandbox
from neighbours import FIND, PLANT

from evalsuite.errors import BadOption, SandboxUnavailable
from evalsuite.sandbox import Limits, Program, open_sandbox

ROOT = Path(__file__).parent.parent.parent


def started(opened, programs):
    """All verdicts, once there are; it returns while the first program runs."""
    run = ThreadPoolExecutor(1).submit(lambda: list(opened.run(programs)))
    time.sleep(1.0)
    return run


def test_programs_come_back_with_their_numbers(sandbox):
    source = [
        Program(solution=f"def f(x): return x + {n}", checks="assert f(1) == 8") for n in range(20)
    ]
    found = dict(sandbox.run(source))
    assert sorted(found) == list(range(20))
    assert [n for n, verdict in found.items() if verdict.passed] == [7]


def test_programs_are_read_as_they_are_needed(sandbox):
    read = []

    def endless():
        for n in itertools.count():
            read.append(n)
            yield Program(solution="", checks="")

    run = sandbox.run(endless())
    seen = [next(run)[0] for _ in range(10)]
    run.close()
    assert len(read) <= 10 + 4
    assert set(seen) < set(read)
    assert len(list(sandbox.run([Program(solution="", checks="")]))) == 1, (
        "a run that was left is over"
    )


def test_nothing_passes_from_one_program_to_the_next(bubblewrap):
    with open_sandbox(workers=1) as opened:
        plant = Program(solution=PLANT, checks="")
        find = Program(solution=FIND, checks="assert found() == [], found()")
        verdicts = [verdict for _, verdict in opened.run([find, plant, find, plant, find])]
    assert [verdict.outcome for verdict in verdicts] == ["passed"] * 5, verdicts


def test_random_numbers_differ_and_hashes_do_not(bubblewrap):
    program = Program(solution="import random\nprint(random.random(), hash('a'))", checks="")
    with open_sandbox(workers=1) as opened:
        drawn = [verdict.stdout.split() for _, verdict in opened.run([program] * 3)]
    assert len({number for number, _ in drawn}) == 3
    assert len({text for _, text in drawn}) == 1


def test_a_zygote_that_dies_is_replaced_and_its_program_is_not_judged(bubblewrap):
    before = {process.pid for process in in_sandbox()}
    with open_sandbox(workers=1) as opened:
        run = started(
            opened,
            [
                Program(solution="import time\ntime.sleep(5)", checks=""),
                Program(solution="", checks=""),
            ],
        )
        for process in in_sandbox():
            if process.pid not in before:
                with contextlib.suppress(psutil.NoSuchProcess):  # it went with one before it
                    process.kill()
        first, second = (verdict for _, verdict in run.result())
    assert first.outcome == "sandbox_error"
    assert second.passed


def test_a_batch_waits_until_so_many_are_left_and_gives_each_verdict_once(bubblewrap):
    with open_sandbox(workers=2) as opened:
        batch, seen = opened.batch(), []
        for number in range(9):
            batch.add(number, Program(solution=f"x = {number}", checks=f"assert x == {number}"))
            seen += batch.ended(running=3)
            assert number + 1 - len(seen) <= 3
        seen += batch.ended(running=0)
        assert list(batch.ended()) == list(batch.ended(running=0)) == []
    assert sorted(number for number, _ in seen) == list(range(9))
    assert all(verdict.passed for _, verdict in seen)


def test_what_is_given_up_is_not_run(bubblewrap):
    with open_sandbox(workers=1) as opened:
        batch = opened.batch()
        batch.add(0, Program(solution="import time; time.sleep(1)", checks=""))
        for number in range(1, 50):
            batch.add(number, Program(solution="import time; time.sleep(60)", checks=""))
        next(batch.ended(running=49))
        batch.give_up()
        other = opened.batch()
        other.add(0, Program(solution="", checks=""))
        begun = time.monotonic()
        opened_after = [verdict.outcome for _, verdict in other.ended(running=0)]
    assert opened_after == ["passed"]
    assert time.monotonic() - begun < 45, "more than the one that ran already was waited for"


def test_a_closed_sandbox_refuses(bubblewrap):
    opened = open_sandbox(workers=1)
    opened.close()
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        next(opened.run([]))


HARNESS = """
import sys
from evalsuite.sandbox import Program, open_sandbox
with open_sandbox(sys.argv[1], workers=2) as opened:
    endless = Program(solution="import os, time\\nos.fork()\\nos.setsid()\\ntime.sleep(1000)", checks="")
    print("running", flush=True)
    for _ in opened.run([endless] * 4):
        pass
"""


@pytest.mark.parametrize("kind", ["bubblewrap", "none"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_harness(bubblewrap, how, kind):
    before = {process.pid for process in in_sandbox()}
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with harness:
        assert harness.stdout.readline() == "running\n"
        time.sleep(1.0)
        running = [process for process in in_sandbox() if process.pid not in before]
        assert len(running) > 4
        harness.send_signal(how)
        _, errors = harness.communicate(timeout=30)
    assert harness.returncode != 0
    if how == signal.SIGINT:
        assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    end = time.monotonic() + 10
    while left := [process for process in in_sandbox() if process.pid not in before]:
        assert time.monotonic() < end, left
        time.sleep(0.1)


def test_without_bubblewrap_it_refuses(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable) as caught:
        open_sandbox()
    assert "bubblewrap is not installed" in caught.value.what
    assert "--sandbox none" in caught.value.hint


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'bwrap: No permissions to create new namespace' >&2; exit 1", "No permissions"),
        ("exit 0", "exit code 0"),
        ('while [ "$1" != -s ]; do py=$1; shift; done; cd /; exec $py "$@"', "does not isolate"),
    ],
)
def test_a_bubblewrap_that_does_not_isolate_is_found_out(tmp_path, monkeypatch, script, said):
    fake = tmp_path / "bwrap"
    inside = ROOT / "evalsuite" / "sandbox"
    fake.write_text(f"#!/bin/sh\n{script}\n".replace("/evalsuite'", f"{inside}'"))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SandboxUnavailable) as caught:
        open_sandbox(workers=1)
    assert said in caught.value.what


def test_bad_options():
    with pytest.raises(BadOption):
        open_sandbox("docker")
    with pytest.raises(BadOption):
        open_sandbox("none", workers=0)


def test_none_says_so_and_still_judges_limits_and_cleans_up(tmp_path):
    before = {process.pid for process in in_sandbox()}
    programs = [
        Program(solution="def f(x): return x * x", checks="assert f(2) == 4"),
        Program(solution="def f(x): return x", checks="assert f(2) == 4"),
        Program(solution="import os\nos._exit(0)", checks=""),
        Program(solution="while True: pass", checks=""),
        Program(solution="x = bytearray(1 << 40)", checks=""),
        Program(
            solution="import os, time\nopen('left', 'w')\nif os.fork() == 0:\n    os.setsid()\n    os.fork()\n    time.sleep(999)",
            checks="",
        ),
    ]
    with open_sandbox("none", limits=Limits(wall_seconds=2.0), workers=1) as opened:
        assert opened.description.startswith("none: limits only")
        outcomes = [verdict.outcome for _, verdict in opened.run(programs)]
    assert outcomes == ["passed", "failed", "failed", "timed_out", "out_of_memory", "passed"]
    assert [process for process in in_sandbox() if process.pid not in before] == []
    assert not Path("left").exists()


def readable_python(become):
    """A Python of this version that a user without rights can start; as a venv's, or the system's."""
    for python in (Path(sys.base_prefix, "bin", "python3"), Path("/usr/bin/python3")):
        script = "import os, sys; print(os.access(sys.executable, os.X_OK), *sys.version_info[:2])"
        told = subprocess.run(
            [*become, python, "-c", script], capture_output=True, text=True, cwd="/"
        )
        if told.stdout.split() == ["True", *map(str, sys.version_info[:2])]:
            return python
    return pytest.skip("no Python of this version that a user without rights can start")


def copied(place, *folders):
    for folder in (*folders, Path(msgspec.__file__).parent, Path(psutil.__file__).parent):
        shutil.copytree(folder, place / folder.name)


def test_as_a_user_without_rights(bubblewrap):
    """By a Python that this user may read, with what it needs beside it."""
    root = os.getuid() == 0
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if root else []
    python = readable_python(become)
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        copied(Path(name), ROOT / "evalsuite", ROOT / "tests" / "sandbox")
        done = subprocess.run(
            [*become, python, "-B", f"{name}/sandbox/as_nobody.py", name],
            env={"PYTHONPATH": name, "PATH": os.environ["PATH"]},
            cwd="/",
            capture_output=True,
            text=True,
        )
    assert re.fullmatch(r"\d\d \[\]\n", done.stdout), done.stdout + done.stderr


def test_nothing_inside_belongs_to_root(bubblewrap):
    before = {process.pid for process in in_sandbox()}
    expected = 65534 if os.getuid() == 0 else os.getuid()
    with open_sandbox(workers=1) as opened:
        run = started(opened, [Program(solution="import time\ntime.sleep(2)", checks="")])
        inside = [p for p in in_sandbox() if p.pid not in before and p.name() != "bwrap"]
        assert len(inside) == 9, "the zygote, and two in each cell of this program and of the next"
        for process in inside:
            assert set(process.uids()) == {expected}
            status = Path(f"/proc/{process.pid}/status").read_text()
            groups = status.partition("Groups:")[2].partition("\n")[0].split()
            assert "0" not in groups
        assert run.result()[0][1].passed


INSTALLED = """
from evalsuite.sandbox import Program, open_sandbox
import evalsuite, sys
assert evalsuite.__file__.startswith(sys.prefix)
look = f"import os\\ndef f(): return os.listdir({evalsuite.__path__[0]!r})"
beside = f"import os\\ndef f(): return sorted(os.listdir({evalsuite.__path__[0]!r} + '/../msgspec'))"
with open_sandbox(workers=1) as opened:
    for solution, expected in [(look, "[]"), (beside, repr(sorted(__import__('os').listdir(evalsuite.__path__[0] + '/../msgspec'))))]:
        for _, verdict in opened.run([Program(solution=solution, checks=f"assert f() == {expected}, f()")]):
            print(verdict.outcome, verdict.detail)
"""


def run_installed(folder):
    """The script above by a new environment in ``folder``, evalsuite installed in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", f"{folder}/venv"], check=True)
    (packages,) = Path(folder).glob("venv/lib/python*/site-packages")
    copied(packages, ROOT / "evalsuite")
    return subprocess.run(
        [f"{folder}/venv/bin/python", "-c", INSTALLED],
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )


def test_an_installed_evalsuite_is_hidden_and_its_neighbours_are_not(bubblewrap):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        done = run_installed(folder)
    assert done.stdout == "passed \npassed \n", done.stdout + done.stderr


def test_a_python_that_a_program_would_lose_is_refused(bubblewrap):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        done = run_installed(folder)
    assert "E401 Python is in /tmp/" in done.stderr.splitlines()[-1]


def test_where_there_are_no_user_namespaces_it_refuses(bubblewrap):
    """A real machine of that kind: inside a bubblewrap that forbids them."""
    outer = ["bwrap", "--unshare-user", "--disable-userns", "--bind", "/", "/", "--dev", "/dev"]
    script = "from evalsuite.sandbox import open_sandbox; open_sandbox(workers=1)"
    done = subprocess.run([*outer, sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("evalsuite.errors.SandboxUnavailable: E401 bubblewrap does not isolate")
    assert "namespace" in last
