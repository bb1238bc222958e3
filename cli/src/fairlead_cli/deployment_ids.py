"""
Deployment ids: made by the client before anything is sent, so that a call whose answer was lost can be made again.

This module only makes ids; `fairlead_shared.identity.check_id` says what an id may be.
"""

from __future__ import annotations

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base32 in lower case, since ids stand in names of Kubernetes objects; its order is ASCII's."""

LENGTH = 26
_RANDOM_BITS = 80


def new_deployment_id(now: float | None = None) -> str:
    """
    Make an id that sorts by time: 48 bits of milliseconds since the epoch, then 80 random bits.

    Args:
        now: Seconds since the epoch; None for the clock's.
    Returns: 26 characters; 2^-80 is the chance that two of one millisecond are alike.
    Source: the ULID specification, in lower case and without its counter within a millisecond.
    """
    milliseconds = int((time.time() if now is None else now) * 1000)
    number = (milliseconds << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    return "".join(ALPHABET[(number >> shift) & 31] for shift in range(5 * (LENGTH - 1), -1, -5))
