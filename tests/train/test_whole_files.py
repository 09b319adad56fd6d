"""Whatever moment a process is killed in, the older folder or the new one stands, and each is whole."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from evalsuite_train.files import whole_folder, write_whole

KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from evalsuite_train.files import whole_folder

folder, moments = Path(sys.argv[1]), int(sys.argv[2])

def counted(act):
    def call(*arguments, **options):
        global moments
        if moments == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        moments -= 1
        return act(*arguments, **options)
    return call

Path.rename, Path.mkdir = counted(Path.rename), counted(Path.mkdir)
Path.write_text, os.unlink = counted(Path.write_text), counted(os.unlink)
with whole_folder(folder) as new:
    (new / "a").write_text("new")
    (new / "b").write_text("new")
"""
OLD, NEW = {"a": "old", "b": "old"}, {"a": "new", "b": "new"}


def content(folder):
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path / "deep" / "adapter", "old")
    return tmp_path / "deep" / "adapter"


def fill(folder, text, names=tuple(OLD)):
    with whole_folder(folder) as new:
        assert not list(new.iterdir())
        for name in names:
            (new / name).write_text(text)


def test_a_folder_is_replaced_and_nothing_else_is_left(folder):
    assert content(folder) == OLD
    fill(folder, "new")
    assert content(folder) == NEW
    assert [entry.name for entry in folder.parent.iterdir()] == ["adapter"]


def test_a_block_that_fails_leaves_the_older_folder(folder):
    with pytest.raises(FileNotFoundError):
        fill(folder, "new", ["a", "no/folder"])
    assert content(folder) == OLD
    assert [entry.name for entry in folder.parent.iterdir()] == ["adapter"]


def test_pitfall_a_kill_never_costs_the_older_folder(folder):
    """Killed before each of its acts in turn, until one process comes through."""
    seen = []
    for moments in range(30):
        command = [sys.executable, "-c", KILLED, str(folder), str(moments)]
        code = subprocess.run(command, check=False).returncode
        if code == 0:
            break
        assert code == -signal.SIGKILL
        stands = folder if folder.exists() else folder.with_name("adapter.old")
        seen.append((stands.name, content(stands)["a"]))
        assert content(stands) in (OLD, NEW)
        with pytest.raises(KeyError), whole_folder(folder):
            raise KeyError  # whoever comes next first puts back what stood there
        assert content(folder) in (OLD, NEW)
        fill(folder, "old")
        assert [entry.name for entry in folder.parent.iterdir()] == ["adapter"]
    assert code == 0
    assert content(folder) == NEW
    assert ("adapter", "old") in seen
    assert ("adapter.old", "old") in seen
    assert ("adapter", "new") in seen


def test_a_file_is_replaced_as_a_whole(tmp_path):
    file = tmp_path / "log.jsonl"
    write_whole(file, "好\n")
    assert file.read_bytes() == "好\n".encode()
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "\ud800")
    write_whole(file, b"\xff")
    assert file.read_bytes() == b"\xff"
    assert [entry.name for entry in tmp_path.iterdir()] == ["log.jsonl"]
