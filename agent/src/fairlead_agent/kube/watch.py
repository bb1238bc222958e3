"""
Watches that do not tire: list, then follow, and keep a projection of each object, for as long as somebody wants it.

A broken or silent connection is opened again at the last position; a position that is too old (410) means a new list,
whose difference is reported like any change, so no transition of the kept state is missed. Objects are projected at
once and dropped: 5,000 pods must fit into a few MiB.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Generic, TypeVar

from fairlead_agent.errors import KubeError, Throttled, Unauthenticated, Unreachable, WatchExpired
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_shared.backoff import full_jitter

T = TypeVar("T")
Key = tuple[str, str]
"""(namespace, name)."""
EVERYTHING: Final[Key] = ("", "")
"""In place of an object's key: all was listed, or none of it can be seen."""

SERVER_SECONDS = 290
"""The server ends a watch after this; below the 5 minutes after which some proxies cut a connection."""
SILENCE_SECONDS = 90.0
"""Bookmarks come about once a minute: longer silence is a dead connection."""
FRESH_SECONDS = 15.0
"""What a watch holds that was silent for longer is not believed without a new list: its connection may be dead."""
LATE_SECONDS = 5.0
"""A write that no event shows for so long is looked for in a new list; a few milliseconds are usual."""
_BACKOFF_BASE_SECONDS = 0.1
_BACKOFF_CAP_SECONDS = 10.0
_GONE_STATUS = 410


class Watch(Generic[T]):
    """The projections of one resource in one namespace, kept current while `run` runs."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        namespace: str,
        project: Callable[[Mapping[str, Any]], T | None],
        changed: Callable[[Key], None],
        *,
        name: str = "",
        label_selector: str = "",
        names_only: bool = False,
    ) -> None:
        """
        Describe a watch.

        Args:
            client: Of the cluster.
            resource: What to watch.
            namespace: Where; empty for cluster-scoped resources.
            project: Object → what to keep of it; None keeps nothing of it.
            changed: Called after `objects` changed at a key, also when it went away; with EVERYTHING when `synced` was
                set.
            name: Only the object of this name; rights may be limited to it.
            label_selector: Only objects with these labels; one that loses them goes away.
            names_only: Only list metadata; for a snapshot, not for `run`.
        """
        self.objects: dict[Key, T] = {}
        self.resource = resource
        self.namespace = namespace
        self.denied: KubeError | None = None
        """Why this cannot be seen at all (a missing right, an unserved kind); None while it can."""
        self.synced = asyncio.Event()
        """Set once the first list is in `objects`, or none ever will be; not while a new list was asked for."""
        self._defect: Exception | None = None
        """What ended `run` that should never end it."""
        self._heard_at = float("-inf")
        """When the API server last said something here, by the monotonic clock."""
        self._reached = 0
        """Version up to which everything is in `objects`."""
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        """Who waits until that is a version."""
        self._renewed = False
        """Whether a new list was asked for."""
        self._following: asyncio.Timeout | None = None
        self._client = client
        self._project = project
        self._changed = changed
        self._field_selector = f"metadata.name={name}" if name else ""
        self._label_selector = label_selector
        self._names_only = names_only

    async def run(self) -> None:
        """List and follow until cancelled, or until `denied`; a defect is raised, here and to whoever waits."""
        try:
            await self._list_and_follow()
        except Exception as defect:  # raised again: whoever waits would wait for ever
            self._defect = defect
            self._let_go()
            raise

    async def _list_and_follow(self) -> None:
        position = ""
        failures = 0
        while True:
            try:
                if not position or self._renewed:
                    position, self._renewed = "", False  # if this list fails, the next try is a list as well
                    position = await self.list()
                    failures = 0
                if not self._renewed:
                    async with asyncio.timeout(None) as self._following:
                        position, seen = await self._follow(position)
                    failures = 0 if seen else failures
            except TimeoutError:
                failures = 0  # a new list was asked for
            except WatchExpired:
                position = ""
            except (Unreachable, Throttled, Unauthenticated):
                pass  # the server may be away for hours, the token just replaced: nothing but trying again helps
            except KubeError as error:
                self._deny(error)
                return
            finally:
                self._following = None
            failures += 1
            if failures > 1:
                await asyncio.sleep(_pause(failures))

    def renew(self) -> None:
        """Have `run` list anew, as the connection may be dead without a word; `synced` is set again after it."""
        if self.denied is not None or self._defect is not None:
            return  # `run` has ended: no list would follow
        if self._renewed:
            return  # that list is yet to begin, and a timeout that is expiring takes no other time
        self._renewed = True
        self.synced.clear()
        if self._following is not None:
            self._following.reschedule(asyncio.get_running_loop().time())

    async def reached(self, versions: Collection[str]) -> None:
        """
        Return once everything up to some versions is in `objects`, as far as they were listed, or is `denied`.

        Args:
            versions: resourceVersions of objects of this resource; none, for how things were a moment ago.
        Raises: Whatever ended `run` that should never end it, at once.
        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
        """
        if not all(version.isdecimal() for version in versions):
            # An API that is served by something else may count otherwise: a list made from now on has it.
            self.renew()
            versions = ()
        elif not versions and self.synced.is_set() and time.monotonic() - self._heard_at > FRESH_SECONDS:
            self.renew()
        await self.synced.wait()
        if self.denied is None and (wanted := max(map(int, versions), default=0)) > self._reached:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((wanted, turn))
            try:
                async with asyncio.timeout(LATE_SECONDS):
                    await turn
            except TimeoutError:
                self.renew()
                await self.synced.wait()  # this list has it, whatever version it says that it has
            finally:
                self._waiting = [one for one in self._waiting if one[1] is not turn]
        if self._defect is not None:
            raise self._defect

    async def list(self) -> str:
        """
        Bring `objects` in step with the server once.

        Returns: The position to follow from; empty if denied while listing a snapshot.
        Raises: KubeError: as KubeClient.page.
        """
        found: dict[Key, T] = {}
        token = ""
        while True:
            page = await self._client.page(
                self.resource,
                self.namespace,
                token=token,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
                names_only=self._names_only,
            )
            for item in page.items:
                if (kept := self._project(item)) is not None:
                    found[_key(item)] = kept
            token = page.token
            if not token:
                break
        stale = [key for key, kept in self.objects.items() if found.get(key) != kept]
        fresh = [key for key in found if key not in self.objects]
        self.objects = found
        self._advance(page.resource_version)
        was_synced = self.synced.is_set()
        if not self._renewed:
            self.synced.set()
        for key in (*stale, *fresh):
            self._changed(key)
        if self.synced.is_set() and not was_synced:
            self._changed(EVERYTHING)
        return page.resource_version

    async def snapshot(self) -> None:
        """List once; a refusal is kept in `denied`. Raises: KubeError: temporary ones."""
        try:
            await self.list()
        except KubeError as error:
            if error.temporary:
                raise
            self._deny(error)

    async def _follow(self, position: str) -> tuple[str, bool]:
        """Follow one watch to its end; return the last position and whether anything came."""
        seen = False
        try:
            async with self._client.watch(
                self.resource,
                self.namespace,
                resource_version=position,
                server_seconds=SERVER_SECONDS,
                silence_seconds=SILENCE_SECONDS,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
            ) as events:
                async for event in events:
                    position = self._take(event, position)
                    seen = True
        except Unreachable:
            if not seen:
                raise
        return position, seen

    def _take(self, event: Mapping[str, Any], position: str) -> str:
        item = event.get("object") or {}
        kind = event.get("type")
        if kind == "ERROR":
            code = int(item.get("code") or 0)
            if code == _GONE_STATUS:
                raise WatchExpired
            raise Unreachable(self._client.transport.server, str(item.get("message") or "the watch ended"))
        position = str(item.get("metadata", {}).get("resourceVersion") or position)
        if kind == "BOOKMARK":
            self._advance(position)
            return position
        key = _key(item)
        kept = None if kind == "DELETED" else self._project(item)
        if kept is None:
            known = self.objects.pop(key, None) is not None
        else:
            known = self.objects.get(key) != kept
            self.objects[key] = kept
        self._advance(position)
        if known:
            self._changed(key)
        return position

    def _advance(self, position: str) -> None:
        """Take note of how far the API server has told."""
        self._heard_at = time.monotonic()
        if position.isdecimal():
            self._reached = int(position)
            for wanted, turn in self._waiting:
                if wanted <= self._reached and not turn.done():
                    turn.set_result(None)

    def _deny(self, error: KubeError) -> None:
        self.denied = error
        self._let_go()
        self._changed(EVERYTHING)

    def _let_go(self) -> None:
        """Have nobody wait for what will not come."""
        self.synced.set()
        for _, turn in self._waiting:
            if not turn.done():
                turn.set_result(None)


def _key(item: Mapping[str, Any]) -> Key:
    metadata = item["metadata"]
    return sys.intern(metadata.get("namespace", "")), metadata["name"]


def _pause(failures: int) -> float:
    return full_jitter(
        failures,
        base_seconds=_BACKOFF_BASE_SECONDS,
        cap_seconds=_BACKOFF_CAP_SECONDS,
        random_unit=random.random(),  # noqa: S311  (spreads retries; nothing secret)
    )
