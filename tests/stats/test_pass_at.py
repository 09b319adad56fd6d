"""pass@k against counting every draw, and its mean over problems."""

from __future__ import annotations

from itertools import combinations
from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import UnknownName
from evalsuite.metrics.formulas import formula
from evalsuite.metrics.metric import Metric
from evalsuite.record import Record
from evalsuite.stats.interval import estimate
from evalsuite.stats.paired import paired_difference
from evalsuite.stats.sufficient import statistics


@given(st.integers(1, 9), st.data())
def test_it_is_the_share_of_draws_with_a_pass(answers: int, data: st.DataObject) -> None:
    passed = data.draw(st.integers(0, answers))
    k = data.draw(st.integers(1, answers))
    outcomes = [True] * passed + [False] * (answers - passed)
    draws = [any(draw) for draw in combinations(outcomes, k)]
    found = formula(f"pass@{k}")(np.array([passed, answers], dtype=float))
    assert float(found) == pytest.approx(mean(draws))


def test_of_200_answers_as_the_paper_computes_it() -> None:
    """Chen et al. 2021, figure 3: the product form, in floating point."""
    n, c, k = 200, 7, 100
    product = 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))
    assert float(formula("pass@100")(np.array([c, n], dtype=float))) == pytest.approx(product)


@pytest.mark.parametrize("name", ["pass@0", "pass@", "pass@-1", "pass@1.5", "pass@123456"])
def test_other_names_are_no_formula(name: str) -> None:
    with pytest.raises(UnknownName):
        formula(name)


def records(passes: dict[str, list[int]]) -> list[Record]:
    return [
        Record(task="t", sample=f"{name}#{n}", cluster=name, scores={"passed": float(value)})
        for name, values in passes.items()
        for n, value in enumerate(values)
    ]


PASS_AT_2 = Metric("pass@2", formula="pass@2", statistic="passed", per_cluster=True)


def test_the_mean_is_over_problems_and_so_is_the_interval() -> None:
    rng = np.random.default_rng(4)
    passes = {f"p{n}": list(rng.binomial(1, rng.beta(1, 2), 5)) for n in range(60)}
    found = estimate(PASS_AT_2, records(passes))
    single = [mean(any(draw) for draw in combinations(values, 2)) for values in passes.values()]
    assert found.value == pytest.approx(mean(single))
    assert found.n == 60
    spread = 1.96 * np.std(single, ddof=1) / 60**0.5
    assert found.high - found.value == pytest.approx(spread, rel=0.2)
    assert found.value - found.low == pytest.approx(spread, rel=0.2)


def test_its_interval_covers_the_truth_as_often_as_it_says() -> None:
    """400 experiments of 40 problems of 6 answers; the chance of a problem is drawn too."""
    rng = np.random.default_rng(7)
    truth = 1 - np.mean((1 - rng.beta(1, 2, 200_000)) ** 2)
    hits = 0
    for _ in range(400):
        passes = {f"p{n}": list(rng.binomial(1, rng.beta(1, 2), 6)) for n in range(40)}
        found = estimate(PASS_AT_2, records(passes))
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / 400 <= 0.985


def test_two_models_are_paired_by_problem() -> None:
    a = {f"p{n}": [0, 0, n % 2] for n in range(20)}
    b = {f"p{n}": [1, 1, n % 2] for n in range(20)}
    found = paired_difference(PASS_AT_2, records(a), records(b))
    assert found.n == 20
    assert found.difference == pytest.approx(1.0 - mean([0.0, 2 / 3]))
    assert found.better == 20
    assert found.p_value < 0.001


def test_a_problem_without_enough_answers_counts_by_those_it_has() -> None:
    table = statistics(PASS_AT_2, records({"p": [1], "q": [0, 0, 0]}))
    assert table.score() == pytest.approx(0.5)
    assert statistics(PASS_AT_2, []).n == 0
