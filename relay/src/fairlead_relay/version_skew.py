"""
How far an agent's version is from the relay's, by the window that is supported: its minor release or the one before.

Only told, never enforced: what cannot be spoken is settled by the protocol's versions in the hello. An upgrade is the
cluster operator's to make.
"""

from __future__ import annotations

import re
from enum import StrEnum

_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?P<rest>.*)", re.DOTALL)


class Skew(StrEnum):
    """An agent's version beside the relay's."""

    SAME = "same"
    OLDER = "older"
    """Supported: of the same minor release or of the one before."""
    TOO_OLD = "too_old"
    """Not supported any more: upgrade the agent."""
    NEWER = "newer"
    """Not supported: upgrade the relay, which goes first."""
    UNKNOWN = "unknown"
    """It has not said hello yet, or what it said is no version."""


def skew_of(agent: str, relay: str) -> Skew:
    """
    Compare an agent's version with the relay's.

    Args:
        agent: As it said hello; empty if it never did.
        relay: The relay's own.
    """
    if agent == relay:
        return Skew.SAME
    theirs, ours = _VERSION.match(agent), _VERSION.match(relay)
    if theirs is None or ours is None:
        return Skew.UNKNOWN
    older, newer = (tuple(map(int, found.groups()[:3])) for found in (theirs, ours))
    if older == newer:
        # Builds of one release, such as 1.2.0rc1 and 1.2.0: a pre-release is before it.
        return Skew.OLDER if theirs["rest"] and not ours["rest"] else Skew.NEWER
    if older > newer:
        return Skew.NEWER
    is_next_minor = older[0] == newer[0] and newer[1] - older[1] <= 1
    # Which minor release was the last of a major one, only its changelog knows: the first of the next takes them all.
    is_next_major = newer[0] - older[0] == 1 and newer[1] == 0
    return Skew.OLDER if is_next_minor or is_next_major else Skew.TOO_OLD
