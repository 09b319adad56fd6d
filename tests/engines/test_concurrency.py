"""How many requests a server gets at once."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.engines._concurrency import Limiter


def at_work(limiter, answers, kind="x"):
    """So many answers, each while as many requests are under way as are let through."""
    for _ in range(answers):
        limiter.active = int(limiter.limit)
        limiter.answered(kind, time.monotonic() - 0.01)


def test_it_grows_quickly_until_the_first_trouble_and_slowly_after():
    limiter = Limiter(1000)
    at_work(limiter, 92)
    assert limiter.limit == 100
    limiter.refused(time.monotonic())
    assert limiter.limit == 50
    at_work(limiter, 50)
    assert limiter.limit == pytest.approx(51, abs=0.02)


def test_one_overload_halves_once_for_all_that_were_under_way():
    limiter = Limiter(64)
    at_work(limiter, 100)
    assert limiter.limit == 64
    began = time.monotonic()
    for _ in range(64):
        limiter.refused(began)
    assert limiter.limit == 32
    limiter.refused(time.monotonic())
    assert limiter.limit == 16


def test_it_does_not_grow_while_nobody_waits_or_answers_take_long():
    limiter = Limiter(64)
    limiter.active = 1
    limiter.answered("x", time.monotonic() - 0.01)
    assert limiter.limit == 8
    for _ in range(100):
        limiter.active = 8
        limiter.answered("x", time.monotonic() - 1.0)
    slow = limiter.limit
    assert slow < 20
    at_work(limiter, 5, kind="another kind")
    assert limiter.limit == slow + 5, "a kind's waits are measured by its own"


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 20))
def test_it_stays_within_its_bounds(fates, most):
    limiter = Limiter(most)
    for good in fates:
        if good:
            at_work(limiter, 1)
        else:
            limiter.refused(time.monotonic())
        assert 1 <= limiter.limit <= most


def test_places_are_never_more_than_the_limit_and_a_pause_stops_all():
    async def run():
        limiter = Limiter(3)
        inside, most = 0, 0

        async def one():
            nonlocal inside, most
            await limiter.enter()
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.005)
            inside -= 1
            await limiter.leave()

        await asyncio.gather(*(one() for _ in range(30)))
        began = time.monotonic()
        limiter.refused(began, pause=0.3)
        await one()
        return most, time.monotonic() - began, limiter.active

    most, waited, active = asyncio.run(run())
    assert (most, active) == (3, 0)
    assert waited >= 0.3


def test_a_waiter_that_is_cancelled_leaves_no_place_taken():
    async def run():
        limiter = Limiter(1)
        await limiter.enter()
        waiting = asyncio.create_task(limiter.enter())
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        limiter.refused(time.monotonic(), pause=60)
        await limiter.leave()
        paused = asyncio.create_task(limiter.enter())
        await asyncio.sleep(0.01)
        paused.cancel()
        await asyncio.gather(paused, return_exceptions=True)
        return limiter.active

    assert asyncio.run(run()) == 0
