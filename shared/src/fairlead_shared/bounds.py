"""
Bounds of the numbers that a peer says: what a store and every reader of JSON can hold.

A hostile peer's `10**30` must be a malformed frame, not an error of the database that meets it later.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Natural = Annotated[int, Field(ge=0, le=2**62)]
"""Half of what 64 bits hold: what is counted on from it fits, too."""
Positive = Annotated[int, Field(ge=1, le=2**63 - 1)]
Attempt = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""32 bits, as in the store."""
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""Shown to people, and by programs that read JSON numbers as floating point. Source: RFC 8259, clause 6."""
EpochSeconds = Annotated[float, Field(ge=0, le=253_402_300_799)]
"""Seconds since the epoch, as far as there are dates: the other end writes it as one."""
