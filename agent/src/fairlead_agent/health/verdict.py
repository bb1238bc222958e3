"""The verdict on one object's health, and what kinds of objects are kept in memory to reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead_shared.progress import HealthStatus


@dataclass(frozen=True, slots=True)
class Verdict:
    """Status and cause of one object."""

    status: HealthStatus
    cause: str = ""
    """One sentence; empty when healthy."""
    final: bool = False
    """Whether waiting cannot help: nothing but another deployment will change it."""

    @property
    def satisfies(self) -> bool:
        """Whether a deployment that waits for this object is content."""
        return self.status in {HealthStatus.HEALTHY, HealthStatus.SUSPENDED}


HEALTHY = Verdict(HealthStatus.HEALTHY)

_KEPT_METADATA = ("name", "namespace", "uid", "generation", "deletionTimestamp", "finalizers")
_KEPT_SPEC = frozenset(
    {
        "replicas",
        "paused",
        "suspend",
        "type",
        "updateStrategy",
        "completions",
        "parallelism",
        "backoffLimit",
        "podManagementPolicy",
    }
)


def owner_uid(manifest: Mapping[str, Any]) -> str:
    """Return the UID of the controller that made an object; empty if none did."""
    owners = manifest["metadata"].get("ownerReferences") or []
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def projected(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what the rules read: identity, a few fields of the spec, and the status; no templates, no managed fields."""
    metadata = manifest["metadata"]
    kept = {name: metadata[name] for name in _KEPT_METADATA if name in metadata}
    spec = manifest.get("spec")
    slim = {name: value for name, value in spec.items() if name in _KEPT_SPEC} if isinstance(spec, Mapping) else {}
    status = manifest.get("status")
    return {"metadata": kept, "spec": slim, "status": status if isinstance(status, Mapping) else {}}
