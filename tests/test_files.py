"""Files are replaced as a whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading

import pytest

from evalsuite.checkpoint.merged import merged_home
from evalsuite.errors import CannotWrite
from evalsuite.fetching import default_folder
from evalsuite.files import home, write_atomically, writing


def test_folders_are_made_and_nothing_else_is_left(tmp_path):
    file = tmp_path / "a" / "b" / "run.json"
    write_atomically(file, "字\n")
    write_atomically(file, b"\xff\x00")
    assert file.read_bytes() == b"\xff\x00"
    assert [p.name for p in file.parent.iterdir()] == ["run.json"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_users_umask_decides_who_may_read(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "f", "x")
        assert os.umask(mask) == mask, "the umask was changed"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o666 & ~mask


def test_a_reader_never_sees_a_part(tmp_path):
    file = tmp_path / "f"
    versions = {letter.encode() * 300_000 for letter in "abc"}
    write_atomically(file, min(versions))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for version in versions:
                write_atomically(file, version)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = {file.read_bytes() for _ in range(300)}
    finally:
        stop.set()
        writer.join()
    assert seen <= versions


def test_without_space_the_old_file_stands(tmp_path):
    """A file size limit gives the same short write and error as a disk without space."""
    file = tmp_path / "f"
    file.write_text("old")
    code = f"""
import resource, signal
from pathlib import Path
from evalsuite.checkpoint.merged import merged_home
from evalsuite.errors import CannotWrite
from evalsuite.fetching import default_folder
from evalsuite.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path({str(file)!r}), "x" * 100_000)
except CannotWrite as fault:
    print(fault.code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "E211"
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_file_in_the_way_is_said_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match=r"file.*choose another --out") as caught:
        write_atomically(tmp_path / "file" / "f", "x")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("number", "word"),
    [(errno.ENOSPC, "space"), (errno.EDQUOT, "quota"), (errno.EROFS, "--out"), (errno.EIO, "")],
)
def test_every_reason_has_its_hint(tmp_path, number, word):
    with pytest.raises(CannotWrite) as caught, writing(tmp_path):
        raise OSError(number, os.strerror(number))
    assert word in caught.value.hint
    assert os.strerror(number).lower() in caught.value.what
    assert caught.value.where == str(tmp_path)


def test_the_home_of_all_caches_is_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("EVALSUITE_HOME", str(tmp_path))
    assert home() == tmp_path
    assert (merged_home(), default_folder("quiz")) == (
        tmp_path / "merged",
        tmp_path / "data" / "quiz",
    )
    monkeypatch.setenv("EVALSUITE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert home() == tmp_path / "user" / ".cache" / "evalsuite"
