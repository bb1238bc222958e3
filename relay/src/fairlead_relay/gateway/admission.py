"""
How many clients without a certificate are served: a token bucket, without clock or sleep of its own.

Everything such a client may do costs the relay a TLS handshake and at most one signature; the bucket bounds that cost.
"""

from __future__ import annotations

SECONDS_PER_MINUTE = 60.0


class Admission:
    """
    A token bucket that holds one minute's worth.

    Args:
        per_minute: Clients admitted per minute in the long run, and at once after a quiet minute.
        now: Monotonic seconds.

    """

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_minute = per_minute
        self._tokens = float(per_minute)
        self._at = now

    def admit(self, now: float) -> float:
        """
        Take one token.

        Args:
            now: Monotonic seconds.

        Returns: 0 when admitted, else the seconds until it is worth coming back.

        """
        per_second = self._per_minute / SECONDS_PER_MINUTE
        self._tokens = min(float(self._per_minute), self._tokens + (now - self._at) * per_second)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / per_second
