"""Grouping by prefix and cutting into batches, as properties."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evalsuite.engines._batching import Budget, batches, group_by_prefix

ROWS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([(1, 2, 3, 4), (1, 2), (1, 2, 3, 5, 6)]), max_size=4),
        st.lists(st.integers(0, 3), min_size=1, max_size=5),
    ).map(lambda parts: (*sum(parts[0], ()), *parts[1])),
    max_size=30,
)


@given(ROWS, st.integers(1, 6), st.integers(1, 4))
def test_groups_hold_every_row_once_and_truly_share(rows, least_tokens, least_rows):
    numbered = list(enumerate(rows))
    groups = group_by_prefix(
        numbered,
        lambda row: row[1],
        lambda row: len(row[1]) - 1,
        least_tokens=least_tokens,
        least_rows=least_rows,
    )
    assert sorted(row for group in groups for row in group.rows) == numbered
    for group in groups:
        assert len({row[1][: group.prefix] for row in group.rows}) == 1
        assert all(group.prefix < len(row[1]) for row in group.rows)
        if group.prefix:
            assert group.prefix >= least_tokens
            assert len(group.rows) >= least_rows
    assert sum(group.prefix == 0 for group in groups) <= 1


def test_subjects_become_groups():
    """Few-shot subjects of 50 questions: one group each, with its whole header shared.

    All subjects begin with the same 20 tokens, which would do for one large group that saves less.
    """
    instruction = tuple(range(20))
    headers = [tuple(range(100 + 100 * subject, 180 + 100 * subject)) for subject in range(4)]
    rows = [(*instruction, *header, 5000 + q, q) for header in headers for q in range(50)]
    groups = group_by_prefix(rows, lambda row: row, lambda row: len(row) - 1)
    assert [(group.prefix, len(group.rows)) for group in groups] == [(100, 50)] * 4


@given(st.lists(st.integers(1, 50)), st.integers(1, 120), st.integers(1, 9))
def test_batches_keep_order_and_budget(costs, tokens, most):
    costs.sort(reverse=True)
    cut = list(batches(costs, lambda cost: cost, Budget(tokens), most=most))
    assert [cost for batch in cut for cost in batch] == costs
    for batch in cut:
        assert len(batch) == 1 or max(batch) * len(batch) <= tokens
        assert len(batch) <= most


def test_a_budget_that_shrinks_counts_for_the_batches_to_come():
    budget = Budget(8)
    sizes = []
    for batch in batches([1] * 20, lambda cost: cost, budget):
        sizes.append(len(batch))
        budget.shrink()
    assert sizes == [8, 4, 2, 1, 1, 1, 1, 1, 1]
