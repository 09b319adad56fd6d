"""JSON lines: what is written can be read back, by us and by any other reader."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite import lines
from evalsuite.record import Record, digest

text = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\ud800\x00\x1b\u202e🙂"), max_size=8
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(values)
def test_any_value_survives_both_forms(value):
    line, pretty = lines.encode(value), lines.pretty(value)
    assert b"\n" not in line
    for written in (line, pretty):
        assert json.loads(written) == value
        assert lines.decode(written, object) == value


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(text, values, max_size=4), st.randoms(use_true_random=False))
def test_equal_values_have_equal_digests_in_any_order(value, chance):
    keys = list(value)
    chance.shuffle(keys)
    assert digest({key: value[key] for key in keys}) == digest(value)


@pytest.mark.parametrize("text", ["plain", "\ud800"])
def test_numbers_that_are_none_are_null_on_both_roads(text):
    written = lines.encode({"text": text, "numbers": (math.nan, [math.inf], {"x": -math.inf}, 1.5)})
    read = json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read == {"text": text, "numbers": [None, [None], {"x": None}, 1.5]}


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**64), 10**400, -(10**4000)])
def test_large_whole_numbers_are_not_rounded(number):
    record = Record(task="t", sample="s", target=[number])
    assert lines.decode(lines.encode(record), Record) == record


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"\x00" * 64,
        b"\xff\xfe",
        b'{"task":"t","sample":"\xff"}',
        b'{"task":"t","sample":"\xed\xa0\x80"',
        b'{"task":"t"}',
        b'{"task":"t","sample":7}',
        b'{"task":"t","sample":"s","scores":{"accuracy":null}}',
        b'{"task":"t","sample":"s","target":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"task":"t","sample":"s","target":' + b"9" * 10_000 + b"}",
        b'{"task":"\\ud800","sample":"s","target":' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_record_is_a_decode_error_whatever_it_is(line):
    with pytest.raises(msgspec.DecodeError):
        lines.decode(line, Record)
