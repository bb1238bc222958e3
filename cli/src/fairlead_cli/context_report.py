"""A stored context as it may be shown: without its token."""

from __future__ import annotations

from pydantic import BaseModel

from fairlead_cli.config import Stored


class ContextReport(BaseModel):
    """One relay, and who we are there."""

    name: str
    is_current: bool
    server: str
    organization: str
    ca_file: str


def report(stored: Stored, name: str) -> ContextReport:
    """Describe one context. Raises: ContextUnknown: there is none of this name."""
    found = stored.named(name)
    return ContextReport(
        name=name,
        is_current=name == stored.current,
        server=found.server,
        organization=found.organization,
        ca_file=found.ca_file,
    )
