"""
Waiting in tests: poll a condition until it holds, and fail with a reason at a deadline.

Where the code under test gives a signal, wait on that instead. Tests never sleep for a fixed time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Value = TypeVar("Value")

POLL_SECONDS = 0.02
"""Short beside anything a test waits for; 50 polls a second cost nothing that shows."""


PATIENCE_SECONDS = 120.0
"""
How long a test waits for what happens at once on a quiet machine: a limit that is only met by what never happens.

A busy machine takes ten times as long and stops a process for seconds; a test that passes waits no longer.
"""


def wait_until(condition: Callable[[], Value], what: str, deadline_seconds: float = PATIENCE_SECONDS) -> Value:
    """
    Poll a condition until it is true.

    Args:
        condition: Called again and again; the first true value it returns is the result.
        what: What is waited for, for the failure's sentence.
        deadline_seconds: How long to wait, > 0.

    Returns: The condition's value.
    Raises: TimeoutError: the condition was still false at the deadline.

    """
    ends = time.monotonic() + deadline_seconds
    while not (value := condition()):
        if time.monotonic() > ends:
            raise TimeoutError(f"waited {deadline_seconds} s for {what}; the last answer was {value!r}")
        time.sleep(POLL_SECONDS)
    return value


async def eventually(
    condition: Callable[[], Awaitable[Value]], what: str, deadline_seconds: float = PATIENCE_SECONDS
) -> Value:
    """
    Poll an asynchronous condition until it is true, while the loop runs on.

    Args:
        condition: Awaited again and again; the first true value it returns is the result.
        what: What is waited for, for the failure's sentence.
        deadline_seconds: How long to wait, > 0.

    Returns: The condition's value.
    Raises: TimeoutError: the condition was still false at the deadline.

    """
    ends = time.monotonic() + deadline_seconds
    while not (value := await condition()):
        if time.monotonic() > ends:
            raise TimeoutError(f"waited {deadline_seconds} s for {what}; the last answer was {value!r}")
        await asyncio.sleep(POLL_SECONDS)
    return value
