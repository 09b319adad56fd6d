"""A long sequence lies on disk and reads as if it did not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import shelf
from evalsuite.errors import CannotWrite
from evalsuite.shelf import Shelf
from evalsuite.task import Sample

VALUES = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=5,
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(shelf, "IN_MEMORY", 3)


@given(st.lists(VALUES, max_size=9), st.integers(-12, 12), st.slices(9))
def test_it_reads_like_a_list(items, at, part):
    shelved = Shelf(items)
    assert (len(shelved), list(shelved), shelved) == (len(items), items, items)
    assert shelved[part] == items[part]
    if -len(items) <= at < len(items):
        assert shelved[at] == items[at]
        assert type(shelved[at]) is type(items[at])
    else:
        with pytest.raises(IndexError):
            shelved[at]
    assert shelved != [*items, 1]


def test_reading_and_adding_alternate():
    shelved: Shelf[str] = Shelf()
    for number in range(50):
        shelved.append("字" * number)
        assert shelved[number // 2] == "字" * (number // 2)
        assert shelved[-1] == "字" * number


def test_samples_come_back_equal_and_are_not_in_memory():
    samples = [Sample(f"q{n}", {"question": "\ud800", "options": ("a", n)}, n) for n in range(9)]
    shelved = Shelf(samples)
    assert list(shelved) == samples
    assert shelved[5] is not samples[5]
    assert shelved[5] is not shelved[5]


def test_what_cannot_be_pickled_stays():
    items = [1, lambda: 2, 3, lambda: 4, lambda: 5]
    assert list(Shelf(items)) == items


def test_a_full_disk_is_said(monkeypatch):
    full = Path("/dev/full").open("r+b")  # noqa: SIM115
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
    with pytest.raises(CannotWrite, match="space"):
        list(Shelf("字" * 100_000 for _ in range(10)))
