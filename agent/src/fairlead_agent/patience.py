"""Patience: a call is made again, after growing and random pauses, for as long as its failure is one that passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

T = TypeVar("T")


async def patiently(
    call: Callable[[], Awaitable[T]],
    *,
    passes: Callable[[BaseException], bool],
    failed: Callable[[BaseException], None],
    base_seconds: float,
    cap_seconds: float,
) -> T:
    """
    Call until it succeeds, or fails for good.

    Args:
        call: What to do; called anew each time.
        passes: Whether a failure is one that passes.
        failed: Told of each failure that passes, before the pause.
        base_seconds: Upper bound of the first pause; it doubles with each failure.
        cap_seconds: Upper bound of any pause.
    Raises: Whatever the call raised last, if it is not one that passes; cancellation at once.
    Source: full jitter, as in fairlead_shared.backoff.
    """
    try:
        return await call()
    except Exception as error:  # most calls succeed, and what tries again costs as much as a small one
        if not passes(error):
            raise
        first: Exception | None = error

    def tell(state: RetryCallState) -> None:
        if state.outcome is not None and (error := state.outcome.exception()) is not None:
            failed(error)

    async def attempt() -> T:
        # tenacity awaits only what it recognises as a coroutine function, which a lambda is not.
        nonlocal first
        if first is not None:
            error, first = first, None
            raise error
        return await call()

    trying = AsyncRetrying(
        wait=wait_random_exponential(multiplier=base_seconds, max=cap_seconds),
        retry=retry_if_exception(passes),
        before_sleep=tell,
        reraise=True,
    )
    return await trying(attempt)
