"""A signal for one waiter."""

import asyncio

import pytest

from fairlead_relay.gateway.signals import Signal


async def test_it_lets_its_waiter_go_and_stays_set_until_cleared() -> None:
    """As an event does."""
    signal = Signal()
    waiting = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    signal.set()
    signal.set()
    await waiting
    await signal.wait()
    assert signal.is_set()
    signal.clear()
    again = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    assert not again.done()
    signal.set()
    await again


async def test_a_waiter_that_was_cancelled_is_forgotten() -> None:
    """The next one may wait."""
    signal = Signal()
    waiting = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    again = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    signal.set()
    await again


async def test_it_refuses_a_second_waiter() -> None:
    """Rather than never waking one of them."""
    signal = Signal()
    waiting = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="has one waiter"):
        await signal.wait()
    signal.set()
    await waiting
