"""
The drift of one environment, from its last deployment to the next job: look where a watch saw something, and tell it.

What others write is put right by the same server-side apply of the same bundle as the deployment's, object by object.
It may force the fields: the deployment had every one of them, by rule or without a conflict, and sets no other. Never
deletes, and never writes to an object that is another one than the deployment wrote. Keeps no state of its own: a new
process finds what it needs in the inventory and the bundle, and looks at everything once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from fairlead_agent.apply.inventory import Inventory, InventoryStore
from fairlead_agent.apply.live import digest_of
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.drift.comparison import Comparison, Found, compare
from fairlead_agent.drift.corrections import NOTHING_DONE, Corrections
from fairlead_agent.drift.reports import DriftReports, fitted
from fairlead_agent.drift.sources import Sources
from fairlead_agent.errors import BundleUnavailable, Conflict, KubeError, NotFound, UnknownKind
from fairlead_agent.health.targets import Source, Target
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_agent.kube.shared_watches import SharedWatches
from fairlead_agent.kube.watch import EVERYTHING, Key
from fairlead_agent.logs import Logger
from fairlead_agent.policy import Policy
from fairlead_agent.ports import Clock, EnvironmentKey, Identity, OwnedObject, Unseal
from fairlead_agent.together import together
from fairlead_shared.bundle import Bundle
from fairlead_shared.drift import MAX_UNSEEN, DriftedObject, DriftKind, DriftMode, DriftStatus, UnseenKind
from fairlead_shared.objects import ObjectRef

DEBOUNCE_SECONDS: Final = 0.3
"""From the first sign of a change to the look: a controller's next write, a moment later, is seen with it."""
DRIFTED_DEBOUNCE_SECONDS: Final = 1.0
"""The same of an object that is known to differ: whoever changes it may be at it."""
FOUGHT_DEBOUNCE_SECONDS: Final = 5.0
"""The same of an object that somebody writes all the time."""
AGAIN_SECONDS: Final = 5.0
"""After a look that the API server did not answer; its client has been patient before."""
BUNDLE_AGAIN_SECONDS: Final = 60.0
BUNDLE_SECONDS: Final = 30.0
"""How long a bundle may take to arrive; with the relay away, it takes as long as that is."""
_BUNDLES: Final = 2
"""In memory at the same time, of up to 16 MiB each."""
_LOOKS: Final = 4
"""Objects looked at together: deployments need the API server's attention more."""
_STATUS_ORDER: Final = (DriftStatus.FOUGHT, DriftStatus.DRIFTED, DriftStatus.CORRECTED)


class Bundles(Protocol):
    """Where bundles are had by their hash."""

    async def load(self, sha256: str) -> Bundle:
        """Return a bundle. Raises: BundleUnavailable, OSError."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the drift of every environment is found and told with."""

    client: KubeClient
    watches: SharedWatches
    inventory: InventoryStore
    bundles: Bundles
    unsealer: Callable[[EnvironmentKey], Unseal]
    reports: DriftReports
    clock: Clock
    logger: Logger
    looked: Callable[[], None] = lambda: None
    """Called for each object that was looked at."""
    corrected: Callable[[], None] = lambda: None
    """Called for each object that was put right."""
    monotonic: Callable[[], float] = time.monotonic
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_BUNDLES))
    """Held while a bundle is in memory."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """The last deployment of an environment, as its inventory tells. Without a bundle: what `contents` adds."""

    environment: EnvironmentKey
    environment_type: str
    namespaces: tuple[str, ...]
    bundle_sha256: str
    uids: Mapping[Identity, str]
    """Of each object that it wrote."""
    policy: Policy
    mode: DriftMode
    digests: Mapping[Identity, bytes]
    """Of the live objects as it left them; empty in another process."""

    @classmethod
    def of(
        cls, environment: EnvironmentKey, inventory: Inventory, policy: Policy, digests: Mapping[Identity, bytes]
    ) -> Deployed:
        """Return what the inventory tells, and what the operator's rules make of it."""
        names = (environment.organization, environment.application, environment.environment)
        return cls(
            environment,
            inventory.environment_type,
            inventory.namespaces,
            inventory.bundle_sha256,
            {owned.ref.identity: owned.uid for owned in inventory.objects},
            policy,
            policy.drift_mode(names, inventory.environment_type),
            digests,
        )

    def may_use(self, ref: ObjectRef) -> bool:
        """Tell whether the operator lets the environment have this object, today."""
        if not ref.namespace:
            return self.policy.allows_cluster_scoped(ref)
        names = (self.environment.organization, self.environment.application, self.environment.environment)
        return self.policy.binds(ref.namespace, names, self.environment_type)


@dataclass(frozen=True, slots=True)
class _Contents:
    """Implements ports.Contents."""

    bundle: Bundle
    environment: EnvironmentKey
    namespaces: tuple[str, ...]
    policy: Policy
    unseal: Unseal


@dataclass(slots=True)
class _Watched:
    """One object."""

    ref: ObjectRef
    resource: Resource
    uid: str
    clean: bytes = b""
    """Digest of the live object when it was last as it was deployed."""
    found: Found | None = None
    """How it differs, or last did."""
    is_there: bool = False
    """Whether it still does."""
    since: float = 0.0
    """When that began, seconds since the epoch."""
    failure: str = ""
    """Why the last correction came to nothing."""
    corrections: Corrections = NOTHING_DONE


class EnvironmentDrift:
    """
    The drift of one environment.

    Args:
        means: Shared ones.
        sources: The watches, shared too.
        deployed: What was deployed; its mode is not off.
    """

    def __init__(self, means: Means, sources: Sources, deployed: Deployed) -> None:
        self._means = means
        self._sources = sources
        self._deployed = deployed
        self._logger = means.logger.bind(environment=str(deployed.environment))
        self._objects: dict[int, _Watched] = {}
        """By place in the bundle."""
        self._at: dict[Source, dict[Key, int]] = {}
        self._unlisted: set[Source] = set()
        """Sources that were never listed, and may be yet."""
        self._due: dict[int, float] = {}
        """Place → when to look at it, monotonic seconds."""
        self._wake = asyncio.Event()
        self._has_news = False
        """Whether there may be something to tell though no object is to be looked at."""
        self._was_told = False
        self._left: set[str] = set()
        """Objects that are not watched, by the operator's rules of today or as their kind is gone."""
        self._trouble = ""

    @property
    def bundle_sha256(self) -> str:
        """Hash of what it is compared with."""
        return self._deployed.bundle_sha256

    @property
    def places(self) -> set[Source]:
        """Return where its objects are watched."""
        return set(self._at)

    @property
    def clean(self) -> dict[Identity, bytes]:
        """Return the digests of objects that were last as they were deployed."""
        return {one.ref.identity: one.clean for one in self._objects.values() if one.clean and not one.is_there}

    async def run(self) -> None:
        """Watch until cancelled; a write under way is ended first. Raises: BundleUnavailable, OSError, KubeError."""
        async with self._means.turns:
            await self._find_objects(await self._load())
        try:
            self._unlisted = set(self._at)
            self._sources.want(self, set(self._at), self._changed)
            # From here on in its own name; those that were kept open for it were in the environment's.
            self._sources.want(self._deployed.environment, set(), self._changed)
            self._logger.info("drift.watching", objects=len(self._objects), watches=self._sources.count)
            self._tell()
            while True:
                await self._look(await self._next())
                self._tell()
        finally:
            self._sources.want(self, set(), self._changed)

    async def _load(self) -> WantedObjects:
        deployed = self._deployed
        try:
            async with asyncio.timeout(BUNDLE_SECONDS):
                bundle = await self._means.bundles.load(deployed.bundle_sha256)
        except TimeoutError:
            raise BundleUnavailable("the relay does not send the bundle of the last deployment now") from None
        unseal = self._means.unsealer(deployed.environment)
        return WantedObjects(_Contents(bundle, deployed.environment, deployed.namespaces, deployed.policy, unseal))

    async def _find_objects(self, wanted: WantedObjects) -> None:
        for place, ref in enumerate(wanted.refs):
            if place in wanted.hooks:
                continue  # it ran, or did not; neither is a state to keep
            try:
                resource = await self._means.client.resolve(ref.api_version, ref.kind)
            except UnknownKind as error:
                self._left.add(str(error))
                continue
            wanted.settle(place, resource)
            settled = wanted.refs[place]
            if not self._deployed.may_use(settled):
                self._left.add(f"the agent's policy no longer lets the environment have {settled}")
                continue
            uid = self._deployed.uids.get(settled.identity, "")
            clean = self._deployed.digests.get(settled.identity, b"")
            self._objects[place] = _Watched(settled, resource, uid, clean)
            self._at.setdefault(Target(settled, resource).source, {})[settled.namespace, settled.name] = place
        # Each object has its own by now; of thousands, both are a few MiB.
        self._deployed = replace(self._deployed, uids={}, digests={})

    # What the watches say.

    def _changed(self, source: Source, key: Key) -> None:
        if key != EVERYTHING:
            if (place := self._at[source].get(key)) is not None:
                self._compare_digest(source, key, place)
            return
        self._unlisted.discard(source)
        if not self._is_unseen(source):
            for known, place in self._at[source].items():
                self._compare_digest(source, known, place)
        self._has_news = True
        self._wake.set()

    def _compare_digest(self, source: Source, key: Key, place: int) -> None:
        one = self._objects[place]
        seen = self._sources.seen(source, key)
        if one.is_there or seen is None or seen.digest != one.clean:
            known = FOUGHT_DEBOUNCE_SECONDS if one.corrections.is_fought else DRIFTED_DEBOUNCE_SECONDS
            self._mark(place, known if one.is_there else DEBOUNCE_SECONDS)
            return
        one.clean = seen.digest  # of thousands, the same bytes are in memory once
        if one.uid == seen.uid:
            one.uid = seen.uid

    def _is_unseen(self, source: Source) -> bool:
        return self._sources.is_left_out(source) or self._sources.denied(source) is not None

    def _mark(self, place: int, seconds: float) -> None:
        """Look at an object so much later, or earlier if that was to be."""
        due = self._means.monotonic() + seconds
        self._due[place] = min(due, self._due.get(place, due))
        self._wake.set()

    async def _next(self) -> list[int]:
        """Wait until some objects are to be looked at, or there is something to tell; return the former."""
        while True:
            self._wake.clear()
            now = self._means.monotonic()
            places = sorted(place for place, due in self._due.items() if due <= now)
            for place in places:
                del self._due[place]
            if places or self._has_news:
                self._has_news = False
                return places
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._due.values()) - now if self._due else None):
                    await self._wake.wait()

    # Looking.

    async def _look(self, places: list[int]) -> None:
        if not places:
            return
        async with self._means.turns:
            try:
                wanted = await self._load()
            except (BundleUnavailable, OSError) as error:
                self._trouble = f"what changed is not known: {error}"
                for place in places:
                    self._mark(place, BUNDLE_AGAIN_SECONDS)
                return
            self._trouble = ""
            left = iter(places)

            async def work() -> None:
                for place in left:
                    await self._look_at(wanted, place)

            await together(work() for _ in range(min(_LOOKS, len(places))))

    async def _look_at(self, wanted: WantedObjects, place: int) -> None:
        one = self._objects[place]
        wanted.settle(place, one.resource)
        self._means.looked()
        try:
            comparison = await compare(self._means.client, wanted, place, one.resource, one.uid)
        except (Conflict, NotFound):
            self._mark(place, DEBOUNCE_SECONDS)
            return
        except KubeError:
            self._mark(place, AGAIN_SECONDS)
            return
        self._note(one, comparison)
        if one.is_there and self._deployed.mode is DriftMode.CORRECT and comparison.manifest:
            wait = one.corrections.next_at - self._means.monotonic()
            if wait > 0:
                self._mark(place, wait)
            else:
                await _uncut(self._put_right(place, comparison))
        if one.is_there and comparison.found is not None and comparison.found.kind is DriftKind.MISSING:
            # What takes its place without our label no watch shows: `kubectl replace --force` deletes first, and who
            # makes it by hand takes longer. So it is looked for, ever more seldom.
            self._mark(place, max(self._means.clock() - one.since, AGAIN_SECONDS))
        if one.corrections.count and not one.is_there:
            self._mark(place, max(one.corrections.calm_at - self._means.monotonic(), 0.0))

    def _note(self, one: _Watched, comparison: Comparison) -> None:
        found = comparison.found
        if found is None:
            if one.is_there:
                self._logger.info("drift.gone", object=str(one.ref))
            one.clean = comparison.digest
            one.is_there = False
            if not one.corrections.count or one.corrections.calm_at <= self._means.monotonic():
                one.found, one.corrections, one.failure = None, NOTHING_DONE, ""
            return
        if not one.is_there or one.found is None or one.found.fields != found.fields:
            pointers = [change.pointer for change in found.fields]
            self._logger.warning(
                "drift.found", object=str(one.ref), drift=found.kind, managers=found.managers, fields=pointers,
                reason=found.reason or None,
            )  # fmt: skip
        one.since = found.since or (one.since if one.is_there else self._means.clock())
        one.found, one.is_there = found, True

    # Putting right.

    async def _put_right(self, place: int, comparison: Comparison) -> None:
        one, client = self._objects[place], self._means.client
        found = comparison.found
        if found is None:
            return
        is_missing = found.kind is DriftKind.MISSING
        try:
            if is_missing:
                # Noted before it is there: what a killed agent made must not look like somebody else's.
                await self._note_uid(one, "")
            # What was made by others meanwhile is not taken from them; what the deployment had, is.
            applied = await client.apply(one.resource, comparison.manifest, force=not is_missing)
            if is_missing:
                await self._note_uid(one, applied.manifest["metadata"]["uid"])
        except Conflict:
            self._mark(place, DEBOUNCE_SECONDS)
            return
        except KubeError as error:
            one.corrections = one.corrections.failed(self._means.monotonic())
            one.failure = f"it could not be put right: {error.explained()}"
            self._mark(place, max(one.corrections.next_at - self._means.monotonic(), 0.0))
            self._logger.warning("drift.not_corrected", object=str(one.ref), error=str(error))
            return
        one.clean, one.is_there, one.failure = digest_of(applied.manifest), False, ""
        one.corrections = one.corrections.made(self._means.monotonic(), (change.pointer for change in found.fields))
        self._means.corrected()
        self._logger.warning("drift.corrected", object=str(one.ref), fought=one.corrections.is_fought)

    async def _note_uid(self, one: _Watched, uid: str) -> None:
        owned = OwnedObject(ref=one.ref, uid=uid)
        await self._means.inventory.change(
            self._deployed.environment, lambda inventory: inventory.without([owned]).owns([owned])
        )
        one.uid = uid

    # Telling.

    def _tell(self) -> None:
        """Report how things stand, once everything was looked at."""
        if self._unlisted:
            return
        if not self._was_told and not self._trouble and not all(self._objects[place].is_there for place in self._due):
            return
        self._was_told = True
        told = [(one, one.found) for one in self._objects.values() if one.found is not None]
        objects = sorted(
            (self._told(one, found) for one, found in told),
            key=lambda told: (_STATUS_ORDER.index(told.status), str(told.object)),
        )
        unseen = [self._unseen(source) for source in self._at if self._is_unseen(source)]
        left = sorted(self._left)
        reasons = [self._trouble] if self._trouble else []
        reasons += [f"{left[0]}{f' (and {len(left) - 1} more)' if left[1:] else ''}"] if left else []
        self._means.reports.put(
            self._deployed.environment,
            {
                "mode": self._deployed.mode,
                "bundle_sha256": self._deployed.bundle_sha256,
                "objects": fitted(objects),
                "total": len(objects),
                "watches": self._sources.count,
                "unseen": tuple(unseen[:MAX_UNSEEN]),
                "reason": "; ".join(reasons)[:4096],
            },
        )

    def _told(self, one: _Watched, found: Found) -> DriftedObject:
        corrections = one.corrections
        if corrections.is_fought:
            status = DriftStatus.FOUGHT
        else:
            status = DriftStatus.DRIFTED if one.is_there else DriftStatus.CORRECTED
        waits = one.is_there and found.may_be_corrected and self._deployed.mode is DriftMode.CORRECT
        next_in = (
            corrections.next_at - self._means.monotonic() if waits and (corrections.count or one.failure) else None
        )
        return DriftedObject(
            object=one.ref,
            drift=found.kind,
            status=status,
            since=one.since,
            managers=found.managers,
            fields=found.fields,
            fields_left_out=found.fields_left_out,
            corrections=corrections.count,
            next_attempt_at=None if next_in is None else round(self._means.clock() + next_in),
            reason=(one.failure or found.reason)[:1024],
        )

    def _unseen(self, source: Source) -> UnseenKind:
        resource, namespace, _ = source
        denied = self._sources.denied(source)
        if denied is None:
            reason = f"the agent keeps no more than {self._sources.most} watches for drift"
        else:
            reason = denied.explained("list", "watch")
        return UnseenKind(group=resource.group, resource=resource.plural, namespace=namespace, reason=reason[:1024])


async def _uncut(writing: Coroutine[Any, Any, None]) -> None:
    """Do something that writes; when cancelled, end it first."""
    task = asyncio.ensure_future(writing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
