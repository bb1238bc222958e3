"""
Watches that jobs share: one for each kind and namespace, opened by the first and kept for a while after the last.

A watch is a list, a connection and its TLS, which cost more than a small deployment itself; many of these, one after
another in the same namespaces, look through the same ones. Judges nothing of what is seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_agent.kube.watch import EVERYTHING, Key, Watch

IDLE_SECONDS: Final = 30.0
"""How long a watch outlives whoever used it last: jobs of a burst follow each other within a second."""
MOST_IDLE: Final = 120
"""Watches that nobody uses; each has the memory of a connection with its TLS."""

T = TypeVar("T")
Project = Callable[[Mapping[str, Any]], T | None]
Changed = Callable[[Key], None]
_Place = tuple[Resource, str, str, str, bool, Project[Any]]


@dataclass(slots=True, eq=False)
class _Shared:
    watch: Watch[Any]
    task: asyncio.Task[None]
    listeners: dict[Lease, Changed] = field(default_factory=dict)
    closing: asyncio.TimerHandle | None = None
    """Set while nobody uses it."""


class SharedWatches:
    """
    The watches of one client. Use as an asynchronous context manager, within the client's own.

    Args:
        client: Of the cluster.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._shared: dict[_Place, _Shared] = {}
        """The least recently left first, among those that nobody uses."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for place in list(self._shared):
            self._close(place)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Give the use of watches, until left."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            for place, shared in lease.held.items():
                self.leave(place, shared, lease)

    def join(self, lease: Lease, place: _Place, changed: Changed) -> _Shared:
        """Have a lease use the watch of a place, opened if there is none that can be used."""
        shared = self._shared.get(place)
        if shared is not None and shared.closing is not None:
            shared.closing.cancel()
            shared.closing = None
        if shared is None or shared.task.done():  # denied once is not denied for ever
            shared = self._shared[place] = self._begin(place)
        shared.listeners[lease] = changed
        return shared

    def _begin(self, place: _Place) -> _Shared:
        resource, namespace, name, label_selector, names_only, project = place

        def tell(key: Key) -> None:
            for listener in list(shared.listeners.values()):
                listener(key)

        watch = Watch(
            self._client,
            resource,
            namespace,
            project,
            tell,
            name=name,
            label_selector=label_selector,
            names_only=names_only,
        )
        task = asyncio.create_task(watch.run(), name=f"watch {resource.plural} {namespace}")
        shared = _Shared(watch, task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: tell(EVERYTHING))
        return shared

    def leave(self, place: _Place, shared: _Shared, lease: Lease) -> None:
        """End a lease's use of a watch."""
        del shared.listeners[lease]
        if shared.listeners:
            return
        if self._shared.get(place) is shared:
            del self._shared[place]
        else:
            shared.task.cancel()
        if shared.task.done() or shared.task.cancelling():
            return
        self._shared[place] = shared
        shared.closing = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close, place)
        idle = [other for other, one in self._shared.items() if one.closing is not None]
        if len(idle) > MOST_IDLE:
            self._close(idle[0])

    def _close(self, place: _Place) -> None:
        shared = self._shared.pop(place)
        if shared.closing is not None:
            shared.closing.cancel()
        shared.task.cancel()


class Lease:
    """What one user has of the shared watches."""

    def __init__(self, watches: SharedWatches) -> None:
        self._watches = watches
        self.held: dict[_Place, _Shared] = {}

    def open(
        self,
        resource: Resource,
        namespace: str,
        project: Project[T],
        changed: Changed,
        *,
        name: str = "",
        label_selector: str = "",
        names_only: bool = False,
    ) -> Watch[T]:
        """Return a watch as described by Watch; others may look through it, too, and it may be far along."""
        place = (resource, namespace, name, label_selector, names_only, project)
        shared = self.held[place] = self._watches.join(self, place, changed)
        return shared.watch

    def close(self, watch: Watch[Any]) -> None:
        """Give up the use of one watch."""
        place = next(place for place, shared in self.held.items() if shared.watch is watch)
        self._watches.leave(place, self.held.pop(place), self)

    async def ended(self, watch: Watch[Any]) -> None:
        """Return once a watch is denied or closed. Raises: whatever ended it that should never end it."""
        task = next(shared.task for shared in self.held.values() if shared.watch is watch)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    def hold_sound(self) -> None:
        """Raise what ended a watch that should never end: a defect must not look like patience."""
        for shared in self.held.values():
            if shared.task.done() and not shared.task.cancelled():
                shared.task.result()
