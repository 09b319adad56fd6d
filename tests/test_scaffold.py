"""A new task works as it is written, before anybody edits it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evalsuite.errors import BadOption, CannotWrite
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.registry import load_task, task_names
from evalsuite.scaffold import new_task
from evalsuite.validation import check

ROOT = Path(__file__).parent.parent


def test_a_new_task_is_sound_and_found_with_task_path(tmp_path):
    folder = tmp_path / "my tasks"
    files = new_task("river_names", folder)
    assert [file.relative_to(folder).as_posix() for file in files] == [
        "river_names.py",
        "river_names_samples/test.jsonl",
        "golden/river_names.json",
    ]
    assert all(file.is_file() for file in files)
    assert task_names([folder])["river_names"] == str(files[0])
    assert check(load_task("river_names", [folder])) == []
    planned = plan_task(TaskChoice(label="river_names"), task_path=[folder])
    assert len(planned.requests) == 3


def test_the_command_line_writes_and_checks_a_new_task(tmp_path):
    def evalsuite(*arguments):
        code = "from evalsuite.cli.main import main; main()"
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    made = evalsuite("tasks", "new", "rivers", "--folder", str(tmp_path))
    assert made.returncode == 0, made.stderr
    checked = evalsuite("tasks", "check", "rivers", "--task-path", str(tmp_path))
    assert (checked.returncode, checked.stdout) == (0, "rivers: sound\n"), checked.stderr
    golden = tmp_path / "golden" / "rivers.json"
    content = json.loads(golden.read_text(encoding="utf-8"))
    content["cases"][0]["scores"] = {"exact_match": 0.5}
    golden.write_text(json.dumps(content), encoding="utf-8")
    checked = evalsuite("tasks", "check", "rivers", "--task-path", str(tmp_path))
    assert checked.returncode == 1
    assert "exact_match" in checked.stdout


@pytest.mark.slow
def test_it_passes_the_linter_and_the_type_checker(tmp_path):
    (file, *_) = new_task("rivers", tmp_path)
    config = str(ROOT / "pyproject.toml")
    for command in (
        ["ruff", "check", "--config", config],
        ["ruff", "format", "--check", "--config", config],
        ["mypy", "--config-file", config, "--cache-dir", str(tmp_path / "cache")],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command, str(file)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Rivers",
        "3rivers",
        "my-task",
        "a b",
        "../up",
        "a/b",
        "河",
        "class",
        "_x",
        "x" * 65,
        "a\n",
    ],
)
def test_a_name_that_cannot_be_a_tasks_is_refused(tmp_path, name):
    with pytest.raises(BadOption, match="cannot be the name"):
        new_task(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["rivers.py", "rivers_samples/test.jsonl", "golden/rivers.json"])
def test_nothing_is_overwritten(tmp_path, there):
    file = tmp_path / there
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(BadOption, match="already"):
        new_task("rivers", tmp_path)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written == [file]
    assert file.read_text(encoding="utf-8") == "mine"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CannotWrite):
        new_task("rivers", tmp_path / "file")
