"""Workloads have the lengths asked for, and their floor is counted right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.bench.workload import (
    Lengths,
    answered,
    distinct_prefixes,
    prompts,
    synthetic,
    tally,
    task_requests,
)
from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines._loading import Loading
from evalsuite.engines.opening import open_engine
from evalsuite.engines.options import ModelOptions
from evalsuite.errors import BadOption
from evalsuite.measurements import Workload
from evalsuite.request import Generated

LENGTHS = Lengths(prompt_tokens=40, answer_tokens=12, requests=3)


@pytest.fixture(scope="module")
def engine(checkpoint_path):
    engine = open_engine("auto", open_checkpoint(str(checkpoint_path)), ModelOptions(device="cpu"))
    yield engine
    engine.close()


@given(st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), max_size=12))
def test_distinct_prefixes_are_those_of_a_set(sequences):
    expected = {s[:n] for s in sequences for n in range(1, len(s) + 1)}
    assert distinct_prefixes(sequences) == len(expected)


def test_prompts_have_exactly_the_lengths_asked_for(engine):
    for workload in synthetic(LENGTHS):
        prepared = prompts(engine, workload, 1)
        assert [len(item.prompt) for item in prepared] == [workload.prompt_tokens] * 3
        assert all(item.prompt[0] == 1 for item in prepared), "each begins with BOS, once"
        assert len({item.prompt for item in prepared}) == 3
        assert {i.prompt for i in prepared}.isdisjoint(
            i.prompt for i in prompts(engine, workload, 2)
        )


def test_answers_go_on_past_every_end(engine):
    """Half the vocabulary made an end: without ``ignore_ends`` answers stop at once."""
    mixed = synthetic(LENGTHS)[2]
    loading = engine._loading
    engine._loading = Loading.of(loading.result()._replace(ends=frozenset(range(0, 448, 2))))
    try:
        stopped = answered(engine, prompts(engine, mixed, 1))
        engine.ignore_ends = True
        found = answered(engine, prompts(engine, mixed, 1))
    finally:
        engine._loading, engine.ignore_ends = loading, False
    assert any(len(answer.token_ids) < 12 for answer in stopped)
    assert all(isinstance(a, Generated) and len(a.token_ids) == 12 for a in found)


def test_tokens_of_the_workloads(engine):
    prefill, decode, mixed = synthetic(LENGTHS)
    found = {}
    engine.ignore_ends = True
    for workload in (prefill, decode, mixed):
        prepared = prompts(engine, workload, 1)
        before = engine.work
        found[workload.name] = tally(prepared, answered(engine, prepared))
        work = engine.work
        assert work.decode_tokens - before.decode_tokens == 3 * max(0, workload.answer_tokens - 1)
        assert work.prefill_tokens - before.prefill_tokens == 3 * workload.prompt_tokens
        assert work.decode_steps - before.decode_steps == max(0, workload.answer_tokens - 1)
    engine.ignore_ends = False
    assert (found["prefill"].prompt_tokens, found["prefill"].answer_tokens) == (120, 0)
    assert (found["prefill"].rows, found["decode"].rows, found["mixed"].rows) == (3, 36, 36)
    assert (found["decode"].prompt_tokens, found["decode"].answer_tokens) == (24, 36)
    assert found["mixed"].longest == 12
    assert 120 - 2 - 10 <= found["prefill"].unique_tokens <= 118, "BOS at least is shared"


def test_a_tasks_floor_is_below_what_it_asks_for(engine):
    prepared = task_requests(engine, "mcq", "", 20, 0)
    found = tally(prepared, answered(engine, prepared))
    sequences = [item.prompt + tail[:-1] for item in prepared for tail in item.tails]
    assert found.unique_tokens == len({s[:n] for s in sequences for n in range(1, len(s) + 1)})
    assert found.unique_tokens < found.prompt_tokens
    assert found.rows == len(prepared), "letters: one place each"


def test_what_does_not_fit_is_refused_before_it_is_tried(engine):
    workload = Workload(name="mixed", requests=1, prompt_tokens=250, answer_tokens=50)
    with pytest.raises(BadOption, match="context of 256"):
        prompts(engine, workload, 0)
