"""Patience: failures that pass are told and tried again, others end it at once."""

from __future__ import annotations

import asyncio

import pytest

from fairlead_agent.patience import patiently


class Flaky:
    """Fails with each of these in turn, then answers."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.told: list[BaseException] = []

    async def call(self) -> str:
        if self.failures:
            raise self.failures.pop(0)
        return "answer"

    async def ask(self) -> str:
        return await patiently(
            lambda: self.call(),  # noqa: PLW0108  (as callers pass it: no coroutine function)
            passes=lambda error: isinstance(error, OSError),
            failed=self.told.append,
            base_seconds=0,
            cap_seconds=0,
        )


async def test_failures_that_pass_are_told_until_it_succeeds() -> None:
    """Each is told once, in order."""
    first, second = OSError("first"), OSError("second")
    flaky = Flaky(first, second)
    assert await flaky.ask() == "answer"
    assert flaky.told == [first, second]


async def test_a_failure_for_good_is_raised_as_it_was() -> None:
    """Not wrapped, and not told: its catcher will."""
    flaky = Flaky(OSError("passes"), ValueError("for good"), OSError("never reached"))
    with pytest.raises(ValueError, match="for good"):
        await flaky.ask()
    assert len(flaky.told) == 1
    assert len(flaky.failures) == 1


async def test_cancellation_ends_it() -> None:
    """A process that stops does not wait for an API server."""
    flaky = Flaky(asyncio.CancelledError(), OSError("never reached"))
    with pytest.raises(asyncio.CancelledError):
        await flaky.ask()
    assert flaky.told == []
