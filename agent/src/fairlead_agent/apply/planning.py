"""
Planning one object: dry-run it, compare the answer with what is there, and say what will become of it.

Knows whether the live object is this environment's, may be taken over, or must be made again; the order among objects
and what all of them need is preflight's. Writes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fairlead_agent.apply.field_changes import field_changes
from fairlead_agent.apply.findings import Finding
from fairlead_agent.apply.ignored import left_to_others
from fairlead_agent.apply.inventory import OWNER_LABEL
from fairlead_agent.apply.live import Live, LiveObjects, digest_of, live_of
from fairlead_agent.apply.makers import Maker, is_manager_of, managers_of
from fairlead_agent.apply.ownership import judge
from fairlead_agent.apply.recreation import is_immutable_alone, judge_recreation, under_another_name
from fairlead_agent.errors import Conflict, FieldConflict, InvalidObject, NotFound, StaleFields
from fairlead_agent.health.targets import is_watched
from fairlead_agent.kube.client import Applied, KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_agent.ports import DeployWork
from fairlead_shared.errors import ErrorCode
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action, FieldChange


@dataclass(frozen=True, slots=True)
class Planned:
    """What will become of one object."""

    action: Action
    write: bool
    """Whether it needs a write."""
    uid: str = ""
    """Of the live object; empty if there is none."""
    resource_version: str = ""
    """Of the live object, as it was compared: a write is bound to it, and nothing older is judged healthy."""
    digest: bytes = b""
    """Of the live object, where it is as it is wanted."""
    taken_from: Maker | None = None
    """Who made the live object, where it is to be taken over."""
    fields: tuple[FieldChange, ...] = ()
    """What would differ from the live object; only where that was asked for."""
    fields_left_out: int = 0
    note: str = ""
    """What else there is to say, such as that it is a hook."""


_CREATED = Planned(Action.CREATED, write=True)


class ObjectPlanner:
    """
    Plans the objects of one deployment, each for itself.

    Args:
        client: The API server.
        work: The deployment.
        live: What is known of live objects.
        tells_fields: Whether to say which fields change: that takes the whole live object.
    """

    def __init__(self, client: KubeClient, work: DeployWork, live: LiveObjects, *, tells_fields: bool = False) -> None:
        self._client = client
        self._work = work
        self._live = live
        self._tells_fields = tells_fields

    def standing(self, resource: Resource, ref: ObjectRef) -> tuple[Planned | None, list[Finding]]:
        """Return what becomes of an object that is in place as it is wanted, and what to report; None says nothing."""
        live = self._live.get(ref)
        if live is None or live.deleted or not live.as_wanted:
            return None, []
        planned = _unchanged(live)
        return planned, _warnings(self._live.warnings(resource), ref)

    async def plan(
        self, resource: Resource, ref: ObjectRef, manifest: Mapping[str, Any]
    ) -> tuple[Planned | None, list[Finding]]:
        """
        Dry-run one object and compare.

        Returns: What will become of it, None if it cannot be written; and what there is to report.
        Raises: KubeError: what the API server has against it.
        """
        force = self._work.policy.may_force(ref)
        whole, manifest = manifest, await self._left_to_others(resource, ref, manifest)
        try:
            applied = await self._client.apply(resource, manifest, dry_run=True, force=force)
        except StaleFields as error:
            return await self._plan_renewed(error, resource, ref)
        except (FieldConflict, InvalidObject) as error:
            return await self._plan_refused(error, resource, ref, manifest, whole)
        planned, findings = (_CREATED, []) if applied.created else await self._plan_change(applied, resource, ref)
        return planned, _warnings(applied.warnings, ref) + _unlabelled(applied.manifest, resource, ref) + findings

    async def outcome(self, resource: Resource, ref: ObjectRef, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return an object as the API server would make it, once `plan` said that it can be written.

        Raises: KubeError: it refuses it by now.
        """
        manifest = await self._left_to_others(resource, ref, manifest)
        return (await self._client.apply(resource, manifest, dry_run=True, force=True)).manifest

    async def _left_to_others(
        self, resource: Resource, ref: ObjectRef, manifest: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return the manifest without what the policy leaves to others and others have."""
        ignored = self._work.policy.ignored(ref)
        live = await self._client.find(resource, ref.namespace, ref.name) if ignored else None
        if live is None:
            return manifest
        maker = judge(live, ref, self._work)
        return left_to_others(manifest, live, ignored, managers_of(maker) if isinstance(maker, Maker) else ())

    async def plan_run(
        self, resource: Resource, ref: ObjectRef, manifest: Mapping[str, Any]
    ) -> tuple[Planned | None, list[Finding]]:
        """
        Dry-run a Job or pod that runs to its end, and is made anew in place of the one that ran before.

        Returns: As `plan`.
        Raises: KubeError: what the API server has against it, or against deleting the one before.
        """
        live = await self._client.find(resource, ref.namespace, ref.name)
        planned, probe = _CREATED, manifest
        if live is not None:
            verdict = judge(live, ref, self._work)
            if isinstance(verdict, Finding):
                return None, [verdict]
            uid = live["metadata"]["uid"]
            planned = Planned(Action.RECREATED, write=True, uid=uid, taken_from=verdict)
            probe = under_another_name(manifest)
            with contextlib.suppress(NotFound, Conflict):
                await self._client.delete(resource, ref.namespace, ref.name, uid=uid, dry_run=True)
        applied = await self._client.apply(resource, probe, dry_run=True)
        return planned, _warnings(applied.warnings, ref) + _unlabelled(applied.manifest, resource, ref)

    async def _plan_change(
        self, applied: Applied, resource: Resource, ref: ObjectRef
    ) -> tuple[Planned | None, list[Finding]]:
        live = self._live.get(ref)
        if live is None:
            found = await self._client.find(resource, ref.namespace, ref.name)
            if found is None:
                return _CREATED, []
            verdict = judge(found, ref, self._work)
            if isinstance(verdict, Finding):
                return None, [verdict]
            if verdict is not None:
                return self._with_fields(_take_over(found, verdict), found, applied), []
            live = live_of(found)
        if live.deleted:
            return None, [_being_deleted(live, ref)]
        if live.digest == digest_of(applied.manifest):
            return _unchanged(live), []
        planned = Planned(Action.CHANGED, write=True, uid=live.uid, resource_version=live.resource_version)
        if self._tells_fields and (whole := await self._client.find(resource, ref.namespace, ref.name)) is not None:
            planned = self._with_fields(planned, whole, applied)
        return planned, []

    async def _plan_renewed(
        self, error: StaleFields, resource: Resource, ref: ObjectRef
    ) -> tuple[Planned | None, list[Finding]]:
        """What is wrong with the object cannot be seen before its managed fields are rewritten, which is a write."""
        live = await self._client.find(resource, ref.namespace, ref.name)
        if live is None:
            return _CREATED, []
        verdict = judge(live, ref, self._work)
        if isinstance(verdict, Finding):
            return None, [verdict]
        message = f"not fully proved: {error}; they are rewritten first"
        metadata = live["metadata"]
        planned = Planned(
            Action.CHANGED,
            write=True,
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            taken_from=verdict,
        )
        return planned, [Finding(ErrorCode.WARNING, message, ref, severity="warning")]

    def _with_fields(self, planned: Planned, live: Mapping[str, Any], applied: Applied) -> Planned:
        if not self._tells_fields:
            return planned
        fields, left_out = field_changes(live, applied.manifest)
        return replace(planned, fields=fields, fields_left_out=left_out)

    async def _plan_refused(
        self,
        error: FieldConflict | InvalidObject,
        resource: Resource,
        ref: ObjectRef,
        manifest: Mapping[str, Any],
        whole: Mapping[str, Any],
    ) -> tuple[Planned | None, list[Finding]]:
        """Find out why the live object does not take the change, and what may be done about it."""
        standing = await self._client.find(resource, ref.namespace, ref.name)
        if standing is None:
            raise error
        # Somebody else's object conflicts as a rule; that it is somebody else's is the better reason.
        verdict = judge(standing, ref, self._work)
        if isinstance(verdict, Finding):
            return None, [verdict]
        if isinstance(error, FieldConflict):
            if verdict is None or not all(is_manager_of(verdict, manager) for manager in error.managers):
                raise error
            try:
                forced = await self._client.apply(resource, manifest, dry_run=True, force=True)
            except InvalidObject as invalid:
                error = invalid
            else:
                return self._with_fields(_take_over(standing, verdict), standing, forced), []
        if not await is_immutable_alone(self._client, resource, whole):
            raise error
        findings, is_allowed = judge_recreation(error, ref, self._work, standing, whole)
        uid = standing["metadata"]["uid"]
        return (Planned(Action.RECREATED, write=True, uid=uid) if is_allowed else None), findings


def _unlabelled(manifest: Mapping[str, Any], resource: Resource, ref: ObjectRef) -> list[Finding]:
    """Return what follows if the API server gives an object back without our label; empty if it has it."""
    if OWNER_LABEL in (manifest["metadata"].get("labels") or {}):
        return []
    gone = f"something in the cluster, such as a webhook, takes the label {OWNER_LABEL} off"
    remedy = "have it leave labels of fairlead.dev alone"
    if is_watched(resource):
        return [Finding(ErrorCode.CONFLICT, f"its health could not be watched: {gone}", ref, remedy=remedy)]
    message = f"it will not be known as the environment's, nor ever be pruned: {gone}"
    return [Finding(ErrorCode.WARNING, message, ref, remedy=remedy, severity="warning")]


def _warnings(texts: Iterable[str], ref: ObjectRef) -> list[Finding]:
    return [Finding(ErrorCode.WARNING, text, ref, severity="warning") for text in texts]


def _unchanged(live: Live) -> Planned:
    version = live.resource_version
    return Planned(Action.UNCHANGED, write=False, uid=live.uid, resource_version=version, digest=live.digest)


def _take_over(live: Mapping[str, Any], maker: Maker) -> Planned:
    uid, version = live["metadata"]["uid"], live["metadata"]["resourceVersion"]
    return Planned(Action.CHANGED, write=True, uid=uid, resource_version=version, taken_from=maker)


def _being_deleted(live: Live, ref: ObjectRef) -> Finding:
    waits = f" and waits for its finalizers ({', '.join(live.finalizers)})" if live.finalizers else ""
    message = f"the live object is being deleted{waits}"
    return Finding(ErrorCode.CONFLICT, message, ref, remedy="deploy again once it is gone")
