"""Programs run while answers come in; what the sandbox does wrong is no wrong answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from quiz_factory import AddingEngine, Quiet, by_sample, take
from sandboxes import needs_bubblewrap

from evalsuite.errors import SandboxUnavailable
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.request import Generated
from evalsuite.rescore import rescore
from evalsuite.store import find_runs, open_run

SAMPLES = Path(__file__).parents[1] / "tasks" / "samples" / "humaneval" / "HumanEval.jsonl"


class Solving(AddingEngine):
    """Answers with what stands behind ``solution:`` in the prompt, or else with ``pass``."""

    def _answer(self, request):
        return Generated(
            request.prompt.text.partition("solution:")[2].partition("\n")[0] or "    pass"
        )


def problems(folder: Path, *rows: dict) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "HumanEval.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    return folder


def problem(number: int, solution: str, test: str = "    assert candidate() == 1\n") -> dict:
    prompt = f'def f():\n    """{number} solution:{solution}\n    """\n'
    return {
        "task_id": f"t/{number}", "prompt": prompt, "entry_point": "f",
        "canonical_solution": "    return 1\n", "test": "def check(candidate):\n" + test,
    }  # fmt: skip


def planned(folder: Path) -> list:
    return [plan_task(TaskChoice(label="humaneval", data=folder))]


@needs_bubblewrap
def test_checks_that_break_are_no_wrong_answer_and_are_run_again(tmp_path: Path) -> None:
    folder = problems(
        tmp_path / "data",
        problem(0, "    return 1"),
        problem(1, "    return 1", "    import os\n    os._exit(3)\n"),
        problem(2, "    return 2"),
    )
    plan = planned(folder)
    run = take(Solving(), plan, tmp_path / "out")
    result = run.manifest.results["humaneval"]
    assert result.errors == {"sandbox_failed": 1}
    assert result.metrics["pass@1"].value == 0.5
    assert by_sample(run)["t/1"].scores == {}
    again = Solving()
    run = take(again, plan, tmp_path / "out", retry_failed=True)
    assert again.asked == ["humaneval/t/1"]
    assert run.manifest.results["humaneval"].errors == {"sandbox_failed": 1}


@needs_bubblewrap
def test_records_are_written_while_slower_programs_still_run(tmp_path: Path) -> None:
    """The engine, at its last request, sees the records of earlier ones that are quick."""
    rows = [problem(n, "    return 1") for n in range(12)]
    rows[0] = problem(0, "    import time; time.sleep(4); return 1")
    shown = Quiet()

    class Watching(Solving):
        def _answer(self, request):
            if len(self.asked) == 12:
                until = time.monotonic() + 60
                while len(shown.records) < 1 and time.monotonic() < until:
                    time.sleep(0.05)
                self.seen = [record.sample for record in shown.records]
            else:
                time.sleep(0.3)
            return super()._answer(request)

    engine = Watching()
    run = take(engine, planned(problems(tmp_path / "data", *rows)), tmp_path / "out", display=shown)
    assert engine.seen
    assert "t/0" not in engine.seen
    assert run.manifest.results["humaneval"].metrics["pass@1"].value == 1.0


def test_without_a_sandbox_nothing_is_asked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    engine = Solving()
    plan = planned(problems(tmp_path / "data", problem(0, "    return 1")))
    with pytest.raises(SandboxUnavailable, match="--sandbox none"):
        take(engine, plan, tmp_path / "out")
    assert engine.asked == []
    run = take(engine, plan, tmp_path / "out", sandbox="none")
    assert run.manifest.results["humaneval"].metrics["pass@1"].value == 1.0
    assert run.manifest.sandbox.startswith("none: ")


@needs_bubblewrap
def test_scoring_again_runs_the_programs_again(tmp_path: Path) -> None:
    folder = problems(tmp_path / "data", problem(0, "    return 1"), problem(1, "    return 2"))
    run = take(Solving(), planned(folder), tmp_path / "out")
    assert rescore(open_run(run.path), {}) == 0
    records = run.path / "records.jsonl"
    text = records.read_text("utf-8")
    records.write_text(text.replace("return 2", "return 1"), "utf-8")
    assert rescore(open_run(run.path), {}) == 1
    assert open_run(run.path).manifest.results["humaneval"].metrics["pass@1"].value == 1.0


@needs_bubblewrap
def test_a_run_of_several_answers_is_scored_again(tmp_path: Path) -> None:
    from evalsuite.decoding import parse_decoding

    folder = problems(tmp_path / "data", problem(0, "    return 1"), problem(1, "    return 2"))
    several = parse_decoding("samples=10,temperature=0.7")
    plan = [plan_task(TaskChoice(label="humaneval", data=folder), sampling=several)]
    run = take(Solving(), plan, tmp_path / "out")
    assert run.manifest.results["humaneval"].metrics["pass@10"].value == 0.5
    assert rescore(open_run(run.path), {}) == 0
    assert open_run(run.path).manifest.results["humaneval"].metrics["pass@10"].value == 0.5


@needs_bubblewrap
@pytest.mark.timeout(300)
def test_killed_while_programs_run_it_goes_on_and_leaves_no_process(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in SAMPLES.read_text("utf-8").splitlines()]
    slow = [
        {
            "id": row["task_id"],
            "output": f"    import time; time.sleep(1)\n{row['canonical_solution']}",
        }
        for row in rows
    ]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in slow), encoding="utf-8")
    command = [
        sys.executable, "-m", "evalsuite", "run", "--model", f"replay:{answers}", "--tasks", "humaneval",
        "--out", str(tmp_path / "out"), "--display", "json",
    ]  # fmt: skip
    environment = os.environ | {"EVALSUITE_HOME": str(tmp_path / "home"), "MARK": str(tmp_path)}
    first = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    written: list[str] = []
    until = time.monotonic() + 120
    while len(written) < 2 and time.monotonic() < until:
        time.sleep(0.05)
        files = list((tmp_path / "out").glob("*/records.jsonl"))
        written = files[0].read_text("utf-8").splitlines() if files else []
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert 2 <= len(written) < len(rows)
    until = time.monotonic() + 20
    while (left := _with_mark(str(tmp_path))) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == []
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    run = open_run(find_runs(tmp_path / "out")[0].path)
    assert len(by_sample(run)) == len(rows)
    assert run.manifest.results["humaneval"].metrics["pass@1"].value == 1.0


def _with_mark(mark: str) -> list[int]:
    """Processes that were started with this in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            if f"MARK={mark}".encode() in environment:
                found.append(int(folder.name))
    return found
