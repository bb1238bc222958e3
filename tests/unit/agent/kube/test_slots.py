"""Slots: how their number follows the API server's answers, and that none is lost."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead_agent.kube.slots import Slots
from tests.polling import PATIENCE_SECONDS


async def test_no_more_are_held_than_there_are() -> None:
    """Those who wait get one in their order."""
    slots = Slots(2, lambda: 0.0)
    order: list[int] = []

    async def hold(number: int) -> None:
        async with slots:
            order.append(number)
            await asyncio.sleep(0)

    async with slots, slots:
        tasks = [asyncio.create_task(hold(number)) for number in range(3)]
        await asyncio.sleep(0)
        assert order == []
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]


async def test_a_waiter_that_gives_up_takes_no_slot_along() -> None:
    """Neither one that waits still, nor one that was given its slot at that moment."""
    slots = Slots(1, lambda: 0.0)

    async def hold() -> None:
        async with slots:
            pass

    async with slots:
        waiting, next_one = asyncio.create_task(hold()), asyncio.create_task(hold())
        await asyncio.sleep(0)
        waiting.cancel()
    next_one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(asyncio.CancelledError):
        await next_one
    await asyncio.wait_for(hold(), PATIENCE_SECONDS)


def test_one_burst_of_refusals_halves_once() -> None:
    """Sixteen that were under way together are one sign, not sixteen; one that began later is another."""
    now = [10.0]
    slots = Slots(16, lambda: now[0])
    for began in (9.0, 9.5, 9.9):
        slots.throttled(began)
    assert slots.size == 8
    now[0] = 11.0
    slots.throttled(10.5)
    assert slots.size == 4


def test_one_more_after_each_round_that_went_well() -> None:
    """Up to the first size, and not beyond."""
    slots = Slots(4, lambda: 0.0)
    slots.throttled(0.0)
    for _ in range(2 + 3):
        slots.went_well()
    assert slots.size == 3
    for _ in range(100):
        slots.went_well()
    assert slots.size == 4


@given(st.lists(st.booleans(), max_size=200))
def test_there_is_always_one_and_never_more_than_at_first(answers: list[bool]) -> None:
    """Whatever the API server says."""
    now = 0.0
    slots = Slots(16, lambda: now)
    for is_well in answers:
        now += 1
        if is_well:
            slots.went_well()
        else:
            slots.throttled(now)
        assert 1 <= slots.size <= 16
