"""What the doctors of agent and relay find, one thing after the other, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    """What it was: a hop on the way to the relay, the database."""
    passed: bool
    found: str
    """What was seen, one phrase or sentence."""
    remedy: str = ""
    """What to do about it; empty when it passed."""

    @property
    def line(self) -> str:
        """The finding for people."""
        mark = "ok  " if self.passed else "FAIL"
        more = f"\n                    → {self.remedy}" if self.remedy else ""
        return f"{mark} {self.subject:<14} {self.found}{more}"

    def as_fields(self, subject: str = "subject") -> dict[str, str | bool]:
        """Return the finding for programs, its subject under a name of their choice."""
        return {subject: self.subject, "passed": self.passed, "found": self.found, "remedy": self.remedy}
