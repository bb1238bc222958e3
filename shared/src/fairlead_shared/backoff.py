"""Full-jitter backoff: how long to wait before the next try. No clock and no randomness of its own."""

from __future__ import annotations


def full_jitter(attempt: int, *, base_seconds: float, cap_seconds: float, random_unit: float) -> float:
    """
    Return the seconds to wait before try number `attempt` + 1.

    Args:
        attempt: Failures in a row so far, ≥ 1.
        base_seconds: Upper bound of the first wait.
        cap_seconds: Upper bound of any wait.
        random_unit: A uniform random number in [0, 1), the caller's.
    Returns: A wait in [0, min(cap, base × 2^(attempt-1))).
    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: full jitter spreads a fleet best.
    """
    # 2.0**1024 overflows; past 2^32 the cap has long won.
    ceiling = min(cap_seconds, base_seconds * 2.0 ** min(attempt - 1, 32))
    return ceiling * random_unit
