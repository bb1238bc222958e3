"""
Prune: delete what an environment's inventory holds and its new bundle does not; never what it did not create.

Before each delete the live object is read: it must carry this environment's owner label and, where the inventory knows
one, the same UID. The delete itself is bound to the UID and version that were read, so a proof cannot go stale. What
may not be deleted stays in the inventory and is reported as skipped. What asks to be orphaned loses its owner label.
What an object awaited is deleted only when that object is gone, so that an operator is there for the finalizers of what
it serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead_agent.apply.findings import Finding, findings_of
from fairlead_agent.apply.graph import deletion_waves
from fairlead_agent.apply.inventory import OWNER_LABEL, Inventory
from fairlead_agent.apply.references import Identity, dependencies
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.errors import Conflict, KubeError, NotFound, UnknownKind
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.condition import until_gone
from fairlead_agent.kube.resources import Resource
from fairlead_agent.ports import Clock, DeployWork, OwnedObject, Report
from fairlead_agent.together import together
from fairlead_shared.errors import ErrorCode
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action, ObjectEvent
from fairlead_shared.statement import Consent

_KEPT: Mapping[str, str] = {
    "fairlead.dev/prune": "deny",
    "helm.sh/resource-policy": "keep",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
}
"""Annotations, and the value of each that forbids to delete the live object."""
_ORPHANED = ("fairlead.dev/prune", "orphan")
"""Annotation and value of an object that is to be left in the cluster, and to be nobody's."""
_LEFT = "left in the cluster as its annotation fairlead.dev/prune: orphan asks, no longer this environment's"
_ARGOCD_OPTIONS = "argocd.argoproj.io/sync-options"
_TRIES = 5
"""Reads of an object that changes while it is being deleted."""
_GONE_SECONDS = 60.0
"""How long the finalizers of an object may take before what it awaited is deleted."""


def prunable(inventory: Inventory, wanted: WantedObjects) -> tuple[OwnedObject, ...]:
    """Return what the inventory lists and the bundle does not."""
    kept = {ref.identity for ref in wanted.refs}
    return tuple(owned for owned in inventory.objects if owned.ref.identity not in kept)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of one object."""

    owned: OwnedObject
    action: Action
    detail: str = ""
    forget: bool = True
    """Whether the inventory is done with it: gone, or not ours after all."""


class Pruner:
    """Deletes what one deployment leaves behind."""

    def __init__(self, client: KubeClient, work: DeployWork, report: Report, clock: Clock) -> None:
        self.pruned: list[Pruned] = []
        self.foreseen: list[Pruned] = []
        """What `check` found would become of each candidate, in their order; those with findings are missing."""
        self.findings: list[Finding] = []
        self._client = client
        self._work = work
        self._report = report
        self._clock = clock
        self._stopping = False
        self._waits: set[asyncio.Task[None]] = set()
        self._leaving: set[Identity] = set()
        self._awaits: dict[Identity, set[Identity]] = {}
        """What candidates await by the annotations of the live objects, as they were last read."""
        self._staying: dict[Identity, str] = {}
        """Candidates that are still there, each with how to call it."""

    def stop(self) -> None:
        """Begin no further delete, and wait for nothing to be gone."""
        self._stopping = True
        for wait in self._waits:
            wait.cancel()

    async def check(self, candidates: Sequence[OwnedObject], held: int) -> list[Finding]:
        """
        Dry-run the deletes.

        Args:
            candidates: What is to go.
            held: How many objects the environment holds now.
        Returns: Why some would be denied, or all of them need consent.
        Raises: KubeError: temporary ones.
        """
        found = await together(self._check(owned) for owned in candidates)
        self.foreseen = [one for one in found if isinstance(one, Pruned)]
        findings = [finding for one in found if not isinstance(one, Pruned) for finding in one]
        statement = self._work.statement
        is_meant = statement.destroys or Consent.PRUNE in statement.consents
        if not is_meant and self._work.policy.prune.needs_consent(len(candidates), held):
            message = f"it would delete {len(candidates)} of the {held} objects that the environment holds"
            remedy = "are the files complete? if it is meant, deploy with --prune-many"
            findings.append(Finding(ErrorCode.CONSENT, message, remedy=remedy))
        return findings

    async def prune(self, candidates: Sequence[OwnedObject]) -> None:
        """Delete them, in the reverse of their order of creation, and report each."""
        by_ref = {owned.ref: owned for owned in candidates}
        self._leaving = {ref.identity for ref in by_ref}
        for wave in deletion_waves(list(by_ref), self._awaits):
            if not self._stopping:
                await asyncio.gather(*(self._settle(by_ref[ref]) for ref in wave))

    async def _check(self, owned: OwnedObject) -> Pruned | list[Finding]:
        try:
            resource = await self._client.resolve(owned.ref.api_version, owned.ref.kind)
            found = await self._candidate(resource, owned)
            if isinstance(found, Pruned):
                return found
            if _is_orphan(found):
                await self._client.unlabel(resource, found, OWNER_LABEL, dry_run=True)
                return Pruned(owned, Action.SKIPPED, _LEFT)
            await self._delete(resource, owned.ref, found, dry_run=True)
        except UnknownKind:
            return Pruned(owned, Action.SKIPPED, "its kind is no longer served")
        except NotFound:
            return Pruned(owned, Action.SKIPPED, "it is gone already")
        except Conflict:
            pass  # changed just now: the real delete looks again
        except KubeError as error:
            if error.temporary:
                raise
            return list(findings_of(error, owned.ref))
        return Pruned(owned, Action.PRUNED)

    async def _settle(self, owned: OwnedObject) -> None:
        if self._stopping:
            return
        try:
            outcome = self._held(owned) or await self._prune(owned)
        except KubeError as error:
            self.findings += findings_of(error, owned.ref)
            outcome = Pruned(owned, Action.FAILED, str(error), forget=False)
            for finding in findings_of(error, owned.ref):
                await self._report(finding.event(self._clock()))
        self.pruned.append(outcome)
        if not outcome.forget:
            self._staying[owned.ref.identity] = str(owned.ref)
        key = f"object/{owned.ref}/{outcome.action}"
        at = self._clock()
        await self._report(
            ObjectEvent(key=key, at=at, object=owned.ref, action=outcome.action, detail=outcome.detail[:4000])
        )

    def _held(self, owned: OwnedObject) -> Pruned | None:
        """Return why an object stays for the sake of one that awaited it."""
        mine = owned.ref.identity
        held = next((who for waiting, who in self._staying.items() if mine in self._awaits.get(waiting, ())), "")
        detail = f"{held}, which waits for it by its annotation, is still there"
        return Pruned(owned, Action.SKIPPED, detail, forget=False) if held else None

    async def _until_gone(self, resource: Resource, owned: OwnedObject, live: Mapping[str, Any]) -> None:
        """Wait until an object is gone, if it awaited others that are to go after it."""
        identity = owned.ref.identity
        if self._stopping or self._leaving.isdisjoint(self._awaits[identity]):
            return
        self._staying[identity] = str(owned.ref)
        wait = asyncio.create_task(until_gone(self._client, resource, live, seconds=_GONE_SECONDS))
        self._waits.add(wait)
        try:
            await asyncio.wait([wait])
        finally:
            self._waits.discard(wait)
            wait.cancel()
        if wait.cancelled():
            return
        try:
            wait.result()
        except TimeoutError:
            message = f"deleted, and still there after {_GONE_SECONDS:g} s; what it waited for stays until it is gone"
            self.findings.append(Finding(ErrorCode.UNHEALTHY, message, owned.ref))
        else:
            del self._staying[identity]

    async def _prune(self, owned: OwnedObject) -> Pruned:
        try:
            resource = await self._client.resolve(owned.ref.api_version, owned.ref.kind)
        except UnknownKind:
            return Pruned(owned, Action.PRUNED, "its kind is no longer served")
        for _ in range(_TRIES):
            try:
                found = await self._candidate(resource, owned)
                if isinstance(found, Pruned):
                    return found
                if _is_orphan(found):
                    await self._client.unlabel(resource, found, OWNER_LABEL)
                    return Pruned(owned, Action.SKIPPED, _LEFT)
                answer = await self._delete(resource, owned.ref, found)
                await self._until_gone(resource, owned, found)
            except NotFound:
                # Without a UID only the intent was listed: its deployment failed before it wrote this object.
                return Pruned(owned, Action.PRUNED) if owned.uid else Pruned(owned, Action.SKIPPED, "it was never made")
            except Conflict:
                continue
            finalizers = (answer.get("metadata") or {}).get("finalizers") or []
            return Pruned(owned, Action.PRUNED, f"waits for {', '.join(finalizers)}" if finalizers else "")
        raise Conflict(f"{owned.ref} changed {_TRIES} times while it was being deleted")

    async def _candidate(self, resource: Resource, owned: OwnedObject) -> dict[str, Any] | Pruned:
        """Return the live object if it may be deleted, else why it stays. Raises: NotFound: there is none."""
        if not self._allowed(resource, owned.ref):
            return Pruned(owned, Action.SKIPPED, "this environment may no longer write there", forget=False)
        live = await self._ours(resource, owned)
        if live is None:
            return Pruned(owned, Action.SKIPPED, "the live object is not the one this environment made")
        self._awaits[owned.ref.identity] = {named for named in dependencies(live) if not isinstance(named, str)}
        if keeper := keeping_annotation(live):
            return Pruned(owned, Action.SKIPPED, f"its annotation {keeper} keeps it", forget=False)
        return live

    async def _ours(self, resource: Resource, owned: OwnedObject) -> dict[str, Any] | None:
        """Return the live object if this environment made it, else None. Raises: NotFound: there is none."""
        live = await self._client.get(resource, owned.ref.namespace, owned.ref.name)
        metadata = live["metadata"]
        labelled = (metadata.get("labels") or {}).get(OWNER_LABEL) == self._work.environment.owner
        return live if labelled and owned.uid in {"", metadata["uid"]} else None

    def _allowed(self, resource: Resource, ref: ObjectRef) -> bool:
        if resource.namespaced:
            return ref.namespace in self._work.statement.namespaces
        return self._work.policy.allows_cluster_scoped(ref)

    async def _delete(
        self, resource: Resource, ref: ObjectRef, live: Mapping[str, Any], *, dry_run: bool = False
    ) -> dict[str, Any]:
        metadata = live["metadata"]
        return await self._client.delete(
            resource,
            ref.namespace,
            ref.name,
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            dry_run=dry_run,
        )


def _is_orphan(live: Mapping[str, Any]) -> bool:
    name, value = _ORPHANED
    return bool((live["metadata"].get("annotations") or {}).get(name) == value)


def keeping_annotation(manifest: Mapping[str, Any]) -> str:
    """Return the annotation of an object that forbids to delete it, as `name: value`; empty if there is none."""
    annotations = manifest["metadata"].get("annotations")
    if not isinstance(annotations, Mapping):
        return ""
    for name, value in _KEPT.items():
        if annotations.get(name) == value:
            return f"{name}: {value}"
    if "Prune=false" in str(annotations.get(_ARGOCD_OPTIONS, "")).replace(" ", "").split(","):
        return f"{_ARGOCD_OPTIONS}: Prune=false"
    return ""
