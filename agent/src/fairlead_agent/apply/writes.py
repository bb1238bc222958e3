"""
Writes: put the objects of a deployment in place, in parallel as far as the graph allows, and say what became of each.

An object whose dependency failed is skipped with the reason; independent branches go on. What is unchanged is not
written. When told to stop, no new write begins and the writes under way are awaited, so that the caller knows what is
there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fairlead_agent.apply.findings import Finding, findings_of
from fairlead_agent.apply.graph import Graph
from fairlead_agent.apply.hooks import RUNS
from fairlead_agent.apply.ignored import left_to_others
from fairlead_agent.apply.inventory import OWNER_LABEL
from fairlead_agent.apply.live import digest_of
from fairlead_agent.apply.makers import Maker
from fairlead_agent.apply.ownership import renewed, taken_over
from fairlead_agent.apply.planning import Planned
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.errors import Conflict, KubeError, NotFound, StaleFields
from fairlead_agent.kube.client import Applied, KubeClient
from fairlead_agent.kube.condition import until, until_gone
from fairlead_agent.kube.resources import CRDS, Resource
from fairlead_agent.ports import Clock, Report
from fairlead_shared.errors import ErrorCode, SealInvalid
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action, ObjectEvent

_WORKERS = 16
"""As many as the client sends at once."""
_TRIES = 8
"""Writes of an object that others keep changing, such as a Deployment whose status moves."""
_GONE_SECONDS = 60.0
"""How long the finalizers of an object that is to be made again may take."""
_ESTABLISHED_SECONDS = 30.0
"""How long a CRD may take to be established; well under a second is usual."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one object."""

    action: Action
    uid: str = ""
    """Of the live object, where it is known."""
    digest: bytes = b""
    """Of the live object as it was left, where that is known."""
    version: str = ""
    """Its resourceVersion then, or when it was found to need no write."""


class _NotTheOne(Conflict):
    """The live object is not the one that was judged: trying again would not change that."""


class _Queue:
    """Hands out places, each after those it needs, and those it awaits only when they are ready."""

    def __init__(self, places: Collection[int], planned: Mapping[int, Planned], graph: Graph) -> None:
        self._graph = graph
        # Where nothing is written in the end, nothing has to be ready for it.
        self._awaiting = graph.needed_for(place for place in places if planned[place].write)
        self._left = {place: sum(other in places for other in graph.needs[place]) for place in places}
        self._unfinished = len(places)
        self._ready: asyncio.Queue[int | None] = asyncio.Queue()
        for place, count in self._left.items():
            if count == 0:
                self._ready.put_nowait(place)

    async def next(self) -> int | None:
        """Return a place whose needs are done; None once all are."""
        return await self._ready.get()

    def done(self, place: int) -> None:
        """Release what waited for a place to be there."""
        self._unfinished -= 1
        self._release(place, is_awaiting=False)
        if self._unfinished == 0:
            for _ in range(_WORKERS):
                self._ready.put_nowait(None)

    def ready(self, place: int) -> None:
        """Release what waited for a place to be ready, or to be known never to be."""
        self._release(place, is_awaiting=True)

    def is_awaited(self, place: int) -> bool:
        """Tell whether something waits for a place to be ready."""
        return any(waiting in self._left and self._awaits(waiting, place) for waiting in self._graph.needed_by[place])

    def _awaits(self, waiting: int, place: int) -> bool:
        return waiting in self._awaiting and place in self._graph.awaits[waiting]

    def _release(self, place: int, *, is_awaiting: bool) -> None:
        for waiting in self._graph.needed_by[place]:
            if waiting in self._left and self._awaits(waiting, place) is is_awaiting:
                self._left[waiting] -= 1
                if self._left[waiting] == 0:
                    self._ready.put_nowait(waiting)


class _Stoppable(Protocol):
    def stop(self) -> None: ...


async def unbroken(
    writing: Callable[[], Awaitable[None]], stoppable: _Stoppable, note: Callable[[], Awaitable[None]] | None = None
) -> None:
    """
    Do something that writes; when cancelled, end the writes under way first.

    Args:
        writing: What writes.
        stoppable: What it is told to begin no further write by.
        note: Notes what was written, whatever becomes of the rest; None: that is seen to elsewhere.
    """

    async def do() -> None:
        try:
            await writing()
        finally:
            if note is not None:
                await note()

    task = asyncio.create_task(do())
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        stoppable.stop()
        await asyncio.gather(task, return_exceptions=True)
        raise


def object_event(ref: ObjectRef, action: Action, at: float, *, note: str = "", detail: str = "") -> ObjectEvent:
    """Return the event of what became of one object; one that has a note may come once with each."""
    key = f"object/{ref}/{action}" + (f"/{note}" if note else "")
    return ObjectEvent(key=key, at=at, object=ref, action=action, detail=(detail or note)[:4000])


UntilReady = Callable[[int, Written], Awaitable[str]]
"""(place, what became of it) → empty once the object is ready; else why it will not be."""


class Writer:
    """
    Writes the objects of one deployment; keeps what became of each.

    Args:
        client: The API server.
        wanted: The objects.
        resources: Where each one's kind is served.
        until_ready: Waits for objects that others await.
        report: Takes what became of each object.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        client: KubeClient,
        wanted: WantedObjects,
        resources: Sequence[Resource | None],
        until_ready: UntilReady,
        report: Report,
        clock: Clock,
    ) -> None:
        self.written: dict[int, Written] = {}
        """By place; grows with each call of `write`."""
        self.findings: list[Finding] = []
        self.unready: dict[int, str] = {}
        """Awaited objects that are not ready in time, each with why."""
        self._client = client
        self._wanted = wanted
        self._resources = resources
        self._report = report
        self._until_ready = until_ready
        self._clock = clock
        self._stopping = False
        self._waits: set[asyncio.Task[str]] = set()

    def stop(self) -> None:
        """Begin no further write, and wait for nothing to get ready."""
        self._stopping = True
        for wait in self._waits:
            wait.cancel()

    async def hold_for(self, places: Collection[int]) -> None:
        """Wait until objects that were written are ready, or known never to be."""
        await asyncio.gather(*(self._await(place) for place in places))

    async def write(self, places: Collection[int], planned: dict[int, Planned], graph: Graph) -> None:
        """
        Write some objects, each after what it needs among them.

        Args:
            places: Which; what they need outside of these was written before, and held for if they await it.
            planned: What shall become of each.
            graph: The order.
        """
        queue = _Queue(places, planned, graph)

        async def release_when_ready(place: int) -> None:
            await self._await(place)
            queue.ready(place)

        async def work() -> None:
            while (place := await queue.next()) is not None:
                if not self._stopping:
                    await self._settle(place, planned[place], graph)
                queue.done(place)
                if queue.is_awaited(place):
                    # Not by this worker: it has others to write meanwhile.
                    group.create_task(release_when_ready(place))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_WORKERS, len(places))):
                group.create_task(work())

    async def _settle(self, place: int, planned: Planned, graph: Graph) -> None:
        """Decide what becomes of one object, and report it."""
        failed = next((other for other in graph.needs[place] if self._failed(other)), None)
        unready = next((self.unready[other] for other in graph.awaits[place] if other in self.unready), "")
        detail = ""
        if failed is not None:
            written = Written(Action.SKIPPED)
            detail = f"it needs {self._wanted.refs[failed]}, which failed"
        elif unready:
            written, detail = Written(Action.SKIPPED), f"it waits for what is not ready: {unready}"
        elif not planned.write:
            written = Written(planned.action, planned.uid, planned.digest, planned.resource_version)
        else:
            written, detail = await self._apply(place, planned)
        self.written[place] = written
        ref = self._wanted.refs[place]
        await self._report(object_event(ref, written.action, self._clock(), note=planned.note, detail=detail))

    async def _await(self, place: int) -> None:
        written = self.written.get(place)
        if written is None or self._failed(place) or self._stopping:
            return
        wait = asyncio.ensure_future(self._until_ready(place, written))
        self._waits.add(wait)
        try:
            if why := await wait:
                self.unready[place] = why
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            self._waits.discard(wait)

    async def _apply(self, place: int, planned: Planned) -> tuple[Written, str]:
        resource, ref = self._resources[place], self._wanted.refs[place]
        if resource is None:
            raise AssertionError(f"{ref} was not resolved")  # preflight let it through: a defect here, not input
        uid = ""
        try:
            if planned.action is Action.RECREATED:
                await self._take_away(resource, place, planned.uid)
            applied = await self._write(resource, place, planned)
            metadata = applied.manifest["metadata"]
            uid = metadata["uid"]
            if resource == CRDS:
                await until(self._client, resource, applied.manifest, "Established", seconds=_ESTABLISHED_SECONDS)
        except KubeError as error:
            findings = list(findings_of(error, ref, fresh=True))
        except SealInvalid as error:
            findings = [Finding(ErrorCode.SEAL, str(error), ref)]
        except TimeoutError as error:
            late = str(error) or f"not established after {_ESTABLISHED_SECONDS:g} s"
            findings = [Finding(ErrorCode.UNHEALTHY, late, ref)]
        else:
            written = Written(planned.action, uid, digest_of(applied.manifest), metadata["resourceVersion"])
            return written, _told(planned)
        self.findings += findings
        for finding in findings:
            await self._report(finding.event(self._clock()))
        return Written(Action.FAILED, uid), findings[0].message

    async def _take_away(self, resource: Resource, place: int, uid: str) -> None:
        """
        Delete an object that is to be made again, and wait until it is gone.

        Raises: Conflict: it belongs to somebody else by now. TimeoutError: its finalizers take too long.
        """
        ref = self._wanted.refs[place]
        for _ in range(_TRIES):
            live = await self._client.find(resource, ref.namespace, ref.name)
            if live is None:
                return
            self._hold_not_anothers(live, place)
            metadata = live["metadata"]
            if metadata["uid"] != uid:
                return  # made again already, by an earlier attempt of this very job
            try:
                await self._client.delete(
                    resource,
                    ref.namespace,
                    ref.name,
                    uid=uid,
                    resource_version=metadata["resourceVersion"],
                    # Its pods must not work beside those of its successor.
                    foreground=(ref.group, ref.kind) in RUNS,
                )
                await until_gone(self._client, resource, live, seconds=_GONE_SECONDS)
            except NotFound:
                return
            except Conflict:
                continue
            except TimeoutError:
                waits = ", ".join(metadata.get("finalizers") or [])
                late = f"deleted to be made again, and still there after {_GONE_SECONDS:g} s; finalizers: {waits}"
                raise TimeoutError(late) from None
            return
        raise Conflict(f"{ref} changed {_TRIES} times while it was being deleted")

    async def _take_over(self, resource: Resource, place: int, planned: Planned, maker: Maker) -> str:
        """
        Move the fields of the live object's maker to Fairlead.

        Returns: The version it has then; empty if it is gone.
        Raises: Conflict: it changed at that moment, or is not the one that was judged.
        """
        ref = self._wanted.refs[place]
        live = await self._client.find(resource, ref.namespace, ref.name)
        if live is None:
            return ""
        self._hold_not_anothers(live, place)
        if live["metadata"]["uid"] != planned.uid:
            raise _NotTheOne(f"{ref} was made anew")
        managed = await self._client.manage(resource, live, taken_over(live, maker))
        return str(managed["metadata"]["resourceVersion"])

    async def _renew_fields(self, resource: Resource, place: int, stale: StaleFields) -> str:
        """Name a version that is served in the live object's managed fields; returns the version it has then."""
        ref = self._wanted.refs[place]
        live = await self._client.get(resource, ref.namespace, ref.name)
        self._hold_not_anothers(live, place)
        managed = await self._client.manage(resource, live, renewed(live, stale.version, resource.api_version))
        return str(managed["metadata"]["resourceVersion"])

    async def _write(self, resource: Resource, place: int, planned: Planned) -> Applied:
        """
        Apply an object at the version that was compared; at a newer one if only others' fields changed since.

        A write of a process that no longer leads comes too late for its version, and changes nothing.
        """
        ref, version, maker = self._wanted.refs[place], planned.resource_version, planned.taken_from
        for _ in range(_TRIES):
            try:
                if maker is not None:
                    version = await self._take_over(resource, place, planned, maker)
                manifest = await self._manifest(resource, place)
                if version:
                    manifest["metadata"]["resourceVersion"] = version
                return await self._client.apply(resource, manifest, force=self._wanted.may_force(place))
            except _NotTheOne:
                raise
            except StaleFields as stale:
                version = await self._renew_fields(resource, place, stale)
            except Conflict:
                live = await self._client.find(resource, ref.namespace, ref.name)
                metadata = {} if live is None else live["metadata"]
                owner = (metadata.get("labels") or {}).get(OWNER_LABEL)
                if live is not None and owner != self._wanted.owner and (owner or maker is None):
                    raise
                version = metadata.get("resourceVersion", "")
        raise Conflict(f"{ref} changed {_TRIES} times while it was being written")

    async def _manifest(self, resource: Resource, place: int) -> dict[str, Any]:
        """Return what to send: without what the policy leaves to others and others have, by now."""
        manifest, ignored = self._wanted.prepared(place), self._wanted.ignored(place)
        ref = self._wanted.refs[place]
        live = await self._client.find(resource, ref.namespace, ref.name) if ignored else None
        return manifest if live is None else left_to_others(manifest, live, ignored)

    def _hold_not_anothers(self, live: Mapping[str, Any], place: int) -> None:
        """Refuse what another environment took since it was judged. Raises: _NotTheOne."""
        owner = (live["metadata"].get("labels") or {}).get(OWNER_LABEL)
        if owner not in {None, self._wanted.owner}:
            raise _NotTheOne(f"{self._wanted.refs[place]} belongs to another environment by now")

    def _failed(self, place: int) -> bool:
        written = self.written.get(place)
        return written is not None and written.action in {Action.FAILED, Action.SKIPPED}


def _told(planned: Planned) -> str:
    taken = f"taken over from {planned.taken_from}" if planned.taken_from is not None else ""
    return "; ".join(said for said in (planned.note, taken) if said)
