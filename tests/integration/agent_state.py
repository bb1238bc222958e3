"""The agent's namespace and its engine, in memory: for tests of the agent's link and runner that need no API server."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fairlead_agent.apply.inventory import InventoryStore
from fairlead_agent.errors import AlreadyExists, Conflict, KubeError, NotFound
from fairlead_agent.ports import (
    CheckpointPort,
    DeployPlan,
    DeployResult,
    DeployWork,
    EnvironmentKey,
    ReplayMark,
    Report,
    StateKind,
)
from fairlead_shared.errors import ErrorCode
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import (
    Action,
    HealthEvent,
    HealthStatus,
    ObjectEvent,
    Outcome,
    PlannedEvent,
)


class MemoryState:
    """Implements ports.StatePort with the API server's rules: compare-and-set, resourceVersions that never repeat."""

    def __init__(self) -> None:
        self.objects: dict[tuple[StateKind, str], dict[str, Any]] = {}
        self.failures: list[KubeError] = []
        """Raised by the next writes, one each."""
        self.writes = 0
        self.hangs_at: tuple[int, bool] | None = None
        """Number of a write that is never answered, as if the process ended there; and whether it is carried out."""
        self.hung = asyncio.Event()
        self.unanswered: KubeError | None = None
        """Raised by the next write, which is carried out."""
        self.unreadable: KubeError | None = None
        """Raised by every read."""
        self._versions = itertools.count(1)

    async def read(self, kind: StateKind, name: str) -> dict[str, Any] | None:
        """Return a copy of the object."""
        await asyncio.sleep(0)
        if self.unreadable is not None:
            raise self.unreadable
        return copy.deepcopy(self.objects.get((kind, name)))

    async def select(self, kind: StateKind, label_selector: str, *, names_only: bool = False) -> list[dict[str, Any]]:
        """Return copies of the objects with one label."""
        await asyncio.sleep(0)
        label, wanted, value = label_selector.partition("=")
        return [
            copy.deepcopy({"metadata": found["metadata"]} if names_only else found)
            for (of_kind, _), found in self.objects.items()
            if of_kind is kind
            and label in (labels := found["metadata"].get("labels", {}))
            and (not wanted or labels[label] == value)
        ]

    async def create(self, kind: StateKind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object."""
        await self._before_write()
        name = manifest["metadata"]["name"]
        if (kind, name) in self.objects:
            raise AlreadyExists(name)
        return await self._store(kind, name, manifest)

    async def update(self, kind: StateKind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object."""
        await self._before_write()
        name = manifest["metadata"]["name"]
        live = self.objects.get((kind, name))
        if live is None:
            raise NotFound(name)
        if live["metadata"]["resourceVersion"] != manifest["metadata"].get("resourceVersion"):
            raise Conflict(name)
        return await self._store(kind, name, manifest)

    async def delete(self, kind: StateKind, name: str, resource_version: str = "") -> None:
        """Delete an object."""
        await self._before_write()
        live = self.objects.get((kind, name))
        if live is not None and resource_version not in ("", live["metadata"]["resourceVersion"]):
            raise Conflict(name)
        self.objects.pop((kind, name), None)
        await self._after_write()

    def names(self, kind: StateKind) -> list[str]:
        """Return the names of all objects of a kind, sorted."""
        return sorted(name for of_kind, name in self.objects if of_kind is kind)

    async def _before_write(self) -> None:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.writes += 1
        await self._hang(carried_out=False)

    async def _after_write(self) -> None:
        await self._hang(carried_out=True)
        if self.unanswered is not None:
            error, self.unanswered = self.unanswered, None
            raise error

    async def _hang(self, *, carried_out: bool) -> None:
        if self.hangs_at == (self.writes, carried_out):
            self.hung.set()
            await asyncio.Event().wait()

    async def _store(self, kind: StateKind, name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        stored = copy.deepcopy(dict(manifest))
        stored["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[kind, name] = stored
        await self._after_write()
        return copy.deepcopy(stored)


@dataclass
class MemoryEngine:
    """
    Implements ports.Engine and ports.HealthPort over a set of names.

    Each object of a bundle is "written" once: a second write of the same deployment would show in `writes`.
    """

    writes: list[tuple[str, str]] = field(default_factory=list)
    """(deployment id, object) in the order of writing."""
    inventory: InventoryStore = field(default_factory=lambda: InventoryStore(MemoryState()))
    """Where deployments are marked."""
    pause_before: int | None = None
    """Index of the object before which to wait for `go_on`."""
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    fail_before: int | None = None
    """Index of the object before which to fail, once."""
    running: int = 0
    most_running: int = 0

    planned: list[str] = field(default_factory=list)
    """Ids of the statements whose plans were asked for."""

    async def plan(self, work: DeployWork, report: Report) -> DeployResult:
        """Say of each object that it would be created."""
        self.planned.append(work.statement.deployment_id)
        refs = [ObjectRef.of(manifest) for manifest in work.bundle.objects()]
        for ref in refs:
            await report(PlannedEvent(key=f"planned/{ref}", at=0, object=ref, action=Action.CREATED))
        return DeployResult(Outcome.SUCCEEDED, counts={Action.CREATED: len(refs)})

    async def run(self, work: DeployWork, report: Report, checkpoint: CheckpointPort) -> DeployResult:
        """Write each object that this deployment has not written."""
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            return await self._apply(work, report, checkpoint)
        finally:
            self.running -= 1

    async def _apply(self, work: DeployWork, report: Report, checkpoint: CheckpointPort) -> DeployResult:
        deployment = work.statement.deployment_id
        refs = [ObjectRef.of(manifest) for manifest in work.bundle.objects()]
        if await checkpoint.load_plan() is None:
            await checkpoint.save_plan(DeployPlan(bundle_sha256=work.bundle.sha256, actions="c" * len(refs)))
        mark = ReplayMark(deployment, finished=False, not_before=work.statement.not_before)
        await self.inventory.change(work.environment, lambda now: now.begun(mark))
        for number, ref in enumerate(refs):
            if number == self.fail_before:
                self.fail_before = None
                return DeployResult(Outcome.FAILED, ErrorCode.UNHEALTHY, f"{ref} failed", {Action.CREATED: number})
            if number == self.pause_before:
                self.paused.set()
                await self.go_on.wait()
            if (deployment, str(ref)) not in self.writes:
                self.writes.append((deployment, str(ref)))
            key = f"object/{ref}/created"
            await report(ObjectEvent(key=key, at=0, object=ref, action=Action.CREATED))
        result = DeployResult(Outcome.SUCCEEDED, counts={Action.CREATED: len(refs)})
        ended = checkpoint.ending(result)
        try:
            await self.inventory.change(work.environment, lambda now: now.ended(deployment, ended))
        except KubeError as error:
            return DeployResult(Outcome.FAILED, error.code, f"it could not be marked: {error}", result.counts)
        return result

    async def check(self, environment: EnvironmentKey) -> list[HealthEvent]:
        """Say that two objects are healthy and degraded."""
        healthy = ObjectRef(api_version="v1", kind="Service", namespace="shop", name="web")
        degraded = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web")
        return [
            HealthEvent(key="health/1", at=0, object=healthy, status=HealthStatus.HEALTHY),
            HealthEvent(key="health/2", at=0, object=degraded, status=HealthStatus.DEGRADED, cause="it crashes"),
        ]
