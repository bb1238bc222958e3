"""
Live objects, as far as a comparison needs them: UID, deletion, and a digest of what a write of ours could change.

Where a bundle has several objects of one kind in one namespace, one list tells about all that we own there, for a
fraction of the requests. Digests instead of objects: thousands must not cost memory. Writes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fairlead_agent.apply.as_applied import is_as_applied
from fairlead_agent.apply.inventory import OWNER_LABEL
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.errors import KubeError
from fairlead_agent.kube.client import FIELD_MANAGER, KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_agent.together import together
from fairlead_shared.errors import SealInvalid
from fairlead_shared.objects import ObjectRef

WORTH_LISTING = 4
"""Objects of one kind and namespace from which a list costs the API server less than reading them one by one."""
_VOLATILE_METADATA = frozenset({"resourceVersion", "generation", "managedFields"})
_LEFT_OUT = frozenset({"apiVersion", "kind", "metadata", "status"})


@dataclass(frozen=True, slots=True)
class Live:
    """One live object."""

    uid: str
    resource_version: str
    digest: bytes
    deleted: bool
    """Whether it is being deleted."""
    finalizers: tuple[str, ...]
    as_wanted: bool = False
    """Whether it is known without a dry-run that a write of ours would change nothing."""


def live_of(manifest: Mapping[str, Any], *, as_wanted: bool = False) -> Live:
    """Return what is kept of a live object."""
    metadata = manifest["metadata"]
    finalizers = tuple(metadata.get("finalizers") or ())
    return Live(
        metadata["uid"],
        metadata["resourceVersion"],
        digest_of(manifest),
        bool(metadata.get("deletionTimestamp")),
        finalizers,
        as_wanted,
    )


def digest_of(manifest: Mapping[str, Any]) -> bytes:
    """
    Return a digest of what a write of ours could change.

    No status, no versions, and of the managed fields our own entry only: the fields we own, not when and beside whom.
    Of labels and annotations only those that we own: controllers note there what they do, some of them all the time.
    """
    metadata = {name: value for name, value in manifest["metadata"].items() if name not in _VOLATILE_METADATA}
    ours = [
        entry.get("fieldsV1") or {}
        for entry in manifest["metadata"].get("managedFields") or []
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"
    ]
    for name in ("labels", "annotations"):
        owned = {key for fields in ours for key in (fields.get("f:metadata") or {}).get(f"f:{name}") or {}}
        metadata[name] = {key: value for key, value in (metadata.get(name) or {}).items() if f"f:{key}" in owned}
    rest = {name: value for name, value in manifest.items() if name not in _LEFT_OUT}
    text = json.dumps([metadata, ours, rest], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


class LiveObjects:
    """
    The live objects of one environment, of the kinds and namespaces that were worth a list.

    Args:
        client: The API server.
        wanted: The objects of the deployment.
    """

    def __init__(self, client: KubeClient, wanted: WantedObjects) -> None:
        self._client = client
        self._wanted = wanted
        self._known: dict[tuple[str, str, str, str], Live] = {}
        self._warnings: dict[Resource, tuple[str, ...]] = {}

    def get(self, ref: ObjectRef) -> Live | None:
        """Return a listed object of ours; None says nothing: it was not listed, is not there, or is not ours."""
        return self._known.get(ref.identity)

    def warnings(self, resource: Resource) -> tuple[str, ...]:
        """Return what the API server warned of as it listed a kind, such as that the version is deprecated."""
        return self._warnings.get(resource, ())

    def forget(self) -> None:
        """Know nothing any more: of thousands, it is a few MiB."""
        self._known.clear()

    async def list(self, places: Iterable[tuple[int, Resource]]) -> None:
        """
        List what is worth it.

        Args:
            places: Objects of the bundle, with where their kinds are served.
        Raises: KubeError: temporary ones. Without the right to list, objects are read one by one.
        """
        among: dict[tuple[Resource, str], dict[str, int]] = {}
        for place, resource in places:
            ref = self._wanted.refs[place]
            among.setdefault((resource, ref.namespace), {})[ref.name] = place
        worth = ((where, names) for where, names in among.items() if len(names) >= WORTH_LISTING)
        await together(self._list(*where, names) for where, names in worth)

    async def _list(self, resource: Resource, namespace: str, places: Mapping[str, int]) -> None:
        token = ""
        selector = f"{OWNER_LABEL}={self._wanted.owner}"
        while True:
            try:
                page = await self._client.page(resource, namespace, token=token, label_selector=selector)
            except KubeError as error:
                if error.temporary:
                    raise
                return
            self._warnings[resource] = page.warnings
            for item in page.items:
                place = places.get(item["metadata"]["name"])
                as_wanted = place is not None and self._is_as_wanted(place, item)
                self._known[resource.ref(item).identity] = live_of(item, as_wanted=as_wanted)
            token = page.token
            if not token:
                return

    def _is_as_wanted(self, place: int, live: Mapping[str, Any]) -> bool:
        """Return whether an object needs no dry-run; where the policy leaves fields to others, it does."""
        if self._wanted.ignored(place):
            return False
        try:
            return is_as_applied(self._wanted.prepared(place), live)
        except SealInvalid:
            return False
