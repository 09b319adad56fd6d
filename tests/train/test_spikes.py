"""The spike detector: a jump is told from noise, from a steep descent and from a heavy tail."""

from __future__ import annotations

import math
import random

import pytest
from evalsuite_train.spikes import ENOUGH, SpikeDetector
from hypothesis import given
from hypothesis import strategies as st


def descent(step: int) -> float:
    """A loss that falls as one from scratch does: from 8 to 2, most of it at once."""
    return 2 + 6 * math.exp(-step / 30)


@given(st.integers(0, 10_000), st.floats(0.001, 0.3))
def test_an_ordinary_training_triggers_nothing(seed: int, noise: float) -> None:
    randomness, detector = random.Random(seed), SpikeDetector(10.0)
    for step in range(400):
        loss = descent(step) * math.exp(randomness.gauss(0, noise))
        norm = math.exp(randomness.gauss(0, 2 * noise)) / (1 + step / 100)
        assert detector.judge(loss, norm) is None


@given(st.integers(0, 10_000), st.integers(ENOUGH, 300))
def test_a_jump_of_the_loss_is_found_anywhere_also_in_the_descent(seed: int, at: int) -> None:
    randomness, detector = random.Random(seed), SpikeDetector(10.0)
    for step in range(at):
        assert detector.judge(descent(step) * math.exp(randomness.gauss(0, 0.02)), 1.0) is None
    fault = detector.judge(descent(at) * 2, 1.0)
    assert fault is not None
    assert fault.startswith("the loss is")


def test_a_jump_of_the_gradient_alone_is_found_and_named() -> None:
    detector = SpikeDetector(10.0)
    for step in range(40):
        detector.judge(3.0 + 0.01 * (step % 3), 1.0 + 0.1 * (step % 2))
    fault = detector.judge(3.0, 100.0)
    assert fault is not None
    assert fault.startswith("the gradient norm is 100, usually 1")
    assert detector.judge(3.0, 1.0) is None  # the bad step was not learnt as usual


def test_a_fall_is_no_spike() -> None:
    detector = SpikeDetector(10.0)
    for _ in range(40):
        detector.judge(3.0, 1.0)
    assert detector.judge(0.01, 0.001) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("threshold", [0.0, 10.0])
def test_what_is_no_number_is_a_fault_from_the_first_step(bad: float, threshold: float) -> None:
    assert SpikeDetector(threshold).judge(bad, 1.0) == f"the loss is {bad}"
    assert SpikeDetector(threshold).judge(1.0, bad) == f"the gradient norm is {bad}"


def test_the_state_judges_as_the_detector_did() -> None:
    one, other = SpikeDetector(10.0), SpikeDetector(10.0)
    for step in range(100):
        one.judge(descent(step), 1.0 + step % 3)
    other.restore(one.state())
    for value in (2.1, 2.3, 3.0, 9.0):
        assert one.score("loss", value) == other.score("loss", value)
