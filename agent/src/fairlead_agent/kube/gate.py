"""
The gate that every write to the API server passes: open while this process may write, shut when another may.

The API server checks no fencing token, so a process that might no longer lead must not begin a write, and one that it
began must be over before somebody else leads. Only the shape is here; who leads is decided elsewhere.
"""

from __future__ import annotations

from typing import Protocol


class WriteGate(Protocol):
    """Says whether writes may begin, and for how long."""

    def seconds_left(self) -> float:
        """Return how long a write that begins now may take, in seconds; 0 or less: none may begin."""

    async def opened(self) -> None:
        """Return once writes may begin. Raises: LeadershipLost: never again through this gate."""
