"""What an agent needs to know of a relay: its address and a token."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RelayAddress:
    """A relay that is somewhere else: in a process of its own, or behind a proxy."""

    url: str
    enrolment_token: str

    def token(self) -> str:
        """Return the enrolment token."""
        return self.enrolment_token
