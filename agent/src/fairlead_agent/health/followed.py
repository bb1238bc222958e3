"""
What is kept of an object that is followed, by whoever waits for its health and whoever looks for its drift.

Both look through the same watch: it is a connection to the API server, and each event on it is read once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fairlead_agent.apply.live import digest_of
from fairlead_agent.health.rules import has_ended, verdict_of
from fairlead_agent.health.verdict import Verdict, projected
from fairlead_agent.kube.resources import Resource


class Followed(NamedTuple):
    """What is kept of one object; of thousands, no more."""

    uid: str
    digest: bytes
    """Of what a write of ours could change."""
    verdict: Verdict
    """By itself, its pods not considered."""
    has_ended: bool
    """Whether it is a Job, or a pod, that ended well."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Projects the objects of one kind; compared by the kind, so that those who follow the same share a watch."""

    group: str
    kind: str

    @classmethod
    def of(cls, resource: Resource) -> Follow:
        """Return what projects a resource's objects."""
        return cls(resource.group, resource.kind)

    def __call__(self, manifest: Mapping[str, Any]) -> Followed:
        """Return what to keep of an object."""
        kept = projected(manifest)
        verdict = verdict_of(self.group, self.kind, kept)
        return Followed(manifest["metadata"]["uid"], digest_of(manifest), verdict, has_ended(kept))
