"""Values come through a message as they were: same type, same content, and nothing else does."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.sandbox.inside.values import Unreadable, decode, encode

HASHABLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
)
VALUES = st.recursive(
    HASHABLE | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(collections.deque)
        | st.sets(HASHABLE)
        | st.frozensets(HASHABLE)
        | st.dictionaries(HASHABLE, inner)
        | st.dictionaries(HASHABLE, inner).map(collections.OrderedDict)
    ),
    max_leaves=20,
)


def refused(value):
    raise AssertionError(f"{value!r} is referred to")


def through(value):
    return decode(json.loads(json.dumps(encode(value, refused))), refused)


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple | collections.deque):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other and repr(one) == repr(other) if type(one) is float else one == other


@given(VALUES)
def test_built_in_values_come_through(value):
    assert same(through(value), value)


@pytest.mark.parametrize(
    "value",
    [
        2**53,
        -(10**4000),
        float("inf"),
        -0.0,
        "\ud800\0",
        range(3, -9, -2),
        int,
        dict,
        collections.Counter("hello"),
        {(1, frozenset({2})): [decimal.Decimal("1.10"), fractions.Fraction(1, 3)]},
        datetime.timedelta(days=-1, microseconds=7),
        ["list", [1]],
    ],
)
def test_rarer_ones_too(value):
    assert same(through(value), value)


def test_not_a_number_comes_through():
    assert through(float("nan")) != through(float("nan"))


def test_types_of_ones_own_cross_as_what_they_are_built_on():
    class Hostile(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

    point = collections.namedtuple("point", "x y")
    assert type(through(Hostile(3))) is int
    assert through(Hostile(3)) != 4
    assert through(point(1, 2)) == (1, 2)
    assert type(through(collections.defaultdict(list, {1: [2]}))) is dict
    assert through(collections.defaultdict(list, {1: [2]})) == {1: [2]}


def test_scalars_of_numpy_cross_as_numbers():
    numpy = pytest.importorskip("numpy")
    for value, plain in [(numpy.int64(7), 7), (numpy.float32(0.5), 0.5), (numpy.bool_(True), True)]:
        assert same(through(value), plain)


@pytest.mark.parametrize(
    "message",
    [
        {},
        [],
        ["list"],
        ["list", 7],
        ["list", [[]]],
        ["int", "x"],
        ["int", None],
        ["set", [["list", []]]],
        ["dict", [[1]]],
        ["range", [0, 1, 0]],
        ["type", "print"],
        ["type", "nothing"],
        ["Decimal", "x"],
        ["Fraction", "1/0"],
        ["timedelta", [10**30]],
        ["datetime", "yesterday"],
        ["__import__", ["os"]],
        [["list"], []],
    ],
)
def test_what_no_honest_cell_writes_is_refused(message):
    with pytest.raises(Unreadable):
        decode(message, refused)
