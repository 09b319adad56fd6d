"""Answers kept across runs: never a wrong one, and never a reason for a run to fail."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quiz_factory import AddingEngine, Quiet, by_sample, take, write_sums

from evalsuite.cache import AnswerCache
from evalsuite.request import Chosen, Generated, Scored

text = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\ud800\x00\x1b\u202e🙂"), max_size=8
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
responses = st.one_of(
    st.builds(Generated, text, st.sampled_from(["stop", "length"]), st.integers(0, 9)),
    st.builds(Chosen, st.none() | st.integers(0, 3), st.tuples(numbers, numbers)),
    st.builds(Scored, numbers, st.integers(0, 9), st.booleans()),
)


@pytest.fixture
def opened():
    """Opens caches, and closes them in the end."""
    caches: list[AnswerCache] = []

    def open_cache(file: Path | None) -> AnswerCache:
        caches.append(AnswerCache(file))
        return caches[-1]

    yield open_cache
    for cache in caches:
        cache.close()


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text("0123456789abcdef", min_size=1), responses, max_size=9))
def test_what_was_put_is_got_and_nothing_else(answers):
    with tempfile.TemporaryDirectory() as folder:
        cache = AnswerCache(Path(folder) / "answers.sqlite")
        cache.put(answers)
        cache.close()
        again = AnswerCache(Path(folder) / "answers.sqlite")
        assert again.get([*answers, "absent"]) == answers
        again.close()
        again.close()


def test_more_keys_than_one_query_holds(tmp_path, opened):
    cache = opened(tmp_path / "answers.sqlite")
    cache.put({str(n): Generated(str(n)) for n in range(1203)})
    found = cache.get(str(n) for n in range(2000))
    assert found == {str(n): Generated(str(n)) for n in range(1203)}


def test_without_a_file_it_forgets(opened):
    cache = opened(None)
    cache.put({"a": Generated("x")})
    assert cache.get(["a"]) == {}
    assert cache.problem == ""


def test_a_second_run_computes_nothing_and_equals_the_first(tmp_path, opened):
    tasks, file = write_sums(tmp_path, 9), tmp_path / "answers.sqlite"
    first = take(AddingEngine(), tasks, tmp_path / "one", cache=opened(file))
    idle, display = AddingEngine(), Quiet()
    second = take(idle, tasks, tmp_path / "two", cache=opened(file), display=display)
    assert idle.asked == []
    assert (display.outlook.to_ask, display.outlook.tasks[0].cached) == (0, 9)
    assert second.manifest.counts == {"asked": 0, "from_cache": 9}
    assert second.manifest.results == first.manifest.results
    one, two = by_sample(first), by_sample(second)
    assert all(record.cached for record in two.values())
    assert not any(record.cached for record in one.values())
    assert [(r.response, r.scores, r.key) for r in one.values()] == [
        (r.response, r.scores, r.key) for r in two.values()
    ]


def ruin_everything(file: Path) -> None:
    file.write_bytes(b"this is no database" * 999)


def ruin_the_middle(file: Path) -> None:
    """Overwrite all pages after the first, where the rows are."""
    content = bytearray(file.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    file.write_bytes(content)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def lose_the_table(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE answers")
        database.execute("CREATE TABLE answers (other TEXT)")
    database.close()


def in_its_place_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "ruin",
    [ruin_everything, ruin_the_middle, cut_short, lose_the_table, in_its_place_a_folder],
)
def test_a_ruined_cache_is_a_note_and_the_run_goes_on(tmp_path, ruin, opened):
    tasks, file = write_sums(tmp_path, 200), tmp_path / "home" / "answers.sqlite"
    cache = opened(file)
    whole = take(AddingEngine(), tasks, tmp_path / "one", cache=cache)
    cache.close()
    ruin(file)
    cache = opened(file)
    run = take(AddingEngine(), tasks, tmp_path / "two", cache=cache)
    assert cache.problem.startswith("the answer cache is off")
    assert run.manifest.results == whole.manifest.results
    assert cache.get(["a"]) == {}


def test_a_file_where_its_folder_should_be(tmp_path, opened):
    (tmp_path / "home").write_text("")
    cache = opened(tmp_path / "home" / "answers.sqlite")
    assert str(tmp_path / "home") in cache.problem
    cache.put({"a": Generated("x")})
    assert cache.get(["a"]) == {}


@pytest.mark.parametrize(
    "row",
    [b"", b"{", b"null", b"[]", b'{"type":"other"}', b'{"type":"generated","text":"\xff"}', 7, None],
)  # fmt: skip
def test_a_row_that_is_no_answer_is_computed_again_and_replaced(tmp_path, row, opened):
    tasks, file = write_sums(tmp_path, 4), tmp_path / "answers.sqlite"
    take(AddingEngine(), tasks, tmp_path / "one", cache=opened(file))
    with sqlite3.connect(file) as database:
        place = "key = (SELECT min(key) FROM answers)"
        database.execute(f"UPDATE answers SET answer = ? WHERE {place}", (row,))
    database.close()
    engine, cache = AddingEngine(), opened(file)
    take(engine, tasks, tmp_path / "two", cache=cache)
    assert (len(engine.asked), cache.problem) == (1, "")
    idle = AddingEngine()
    take(idle, tasks, tmp_path / "three", cache=opened(file))
    assert idle.asked == []


READER = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
from evalsuite.cache import AnswerCache
from evalsuite.request import Generated
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
cache = AnswerCache(Path({file!r}))
cache.put({{"new": Generated("new")}})
print(cache.get(["new"]), bool(cache.problem))
"""


@pytest.mark.parametrize("protected", ["file", "folder"])
def test_a_cache_that_may_not_be_written_is_a_note(protected, opened):
    """As another user than root, to whom permissions apply; pytest's own folder is closed to them."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o777)
        file = folder / "home" / "answers.sqlite"
        cache = opened(file)
        cache.put({"old": Generated("old")})
        cache.close()
        file.chmod(0o444)
        file.parent.chmod(0o555 if protected == "folder" else 0o777)
        code = READER.format(path=[str(Path(__file__).parent), *sys.path], file=str(file))
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
        )
        assert done.stdout == "{} True\n", done.stderr
    finally:
        file.parent.chmod(0o777)
        shutil.rmtree(folder)


def test_many_processes_share_it(tmp_path, opened):
    """All open it at the same moment and put 100 keys of their own and 100 that all share."""
    code = """
import sys
from pathlib import Path
from evalsuite.cache import AnswerCache
from evalsuite.request import Generated
me = sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
cache = AnswerCache(Path(sys.argv[1]))
for n in range(100):
    cache.put({f"{me}-{n}": Generated(f"{me}-{n}"), f"all-{n}": Generated(f"all-{n}")})
    assert cache.get([f"{me}-{n}"]), "what was put is not there"
print(cache.problem)
"""
    file = tmp_path / "home" / "answers.sqlite"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(file), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert (output, errors) == ("\n", "")
    expected = [f"{me}-{n}" for me in [*range(6), "all"] for n in range(100)]
    assert opened(file).get(expected) == {key: Generated(key) for key in expected}
