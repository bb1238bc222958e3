"""
Turns: which sessions are served next, organizations one after the other.

An organization with a thousand agents that wake at once has one turn, as has one with a single agent: what the latter
waits for is one session of each other organization, not all of them. Must not know what serving means.
"""

from __future__ import annotations

from collections import OrderedDict


class Turns:
    """Sessions that wait to be served, each once."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        """Organization → its sessions in the order of coming; first the organization whose turn it is."""

    def __bool__(self) -> bool:
        """Tell whether anybody waits."""
        return bool(self._waiting)

    def add(self, organization: str, session_id: str) -> None:
        """Have a session wait, behind the others of its organization; one that waits already keeps its place."""
        self._waiting.setdefault(organization, OrderedDict()).setdefault(session_id)

    def discard(self, organization: str, session_id: str) -> None:
        """Have a session wait no more; one that does not is fine."""
        sessions = self._waiting.get(organization)
        if sessions is not None:
            sessions.pop(session_id, None)
            if not sessions:
                del self._waiting[organization]

    def take(self, most: int) -> list[str]:
        """Return the next sessions, at most so many, which wait no more."""
        taken: list[str] = []
        while self._waiting and len(taken) < most:
            organization, sessions = self._waiting.popitem(last=False)
            taken.append(sessions.popitem(last=False)[0])
            if sessions:
                self._waiting[organization] = sessions
        return taken
