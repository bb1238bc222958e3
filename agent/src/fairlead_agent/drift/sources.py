"""
Watches shared by all environments: one for each kind in each namespace, and a limit on all of them.

Jobs look through them, too. Only objects with our owner label are watched, and of each little more is kept than a
digest of what a write of ours could change: what changes nothing but status costs no request, and a namespace full of
other things nothing at all. An object that loses the label goes away as one that is deleted does. Asks nothing about
drift; whoever listens does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any, Final

from fairlead_agent.apply.inventory import OWNER_LABEL
from fairlead_agent.errors import KubeError
from fairlead_agent.health.followed import Follow, Followed
from fairlead_agent.health.targets import Source
from fairlead_agent.kube.shared_watches import Lease
from fairlead_agent.kube.watch import EVERYTHING, Key, Watch

MOST_WATCHES: Final = 200
"""Each is a connection to the API server, with the memory of its TLS."""
_LISTS: Final = 4
"""First lists at the same time: each is in memory by pages of 200 objects."""
LIST_SECONDS: Final = 10.0
"""For how long a first list keeps others waiting: an API that is served by something else may be away for days."""

Changed = Callable[[Source, Key], None]
Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


@dataclass(slots=True)
class _Shared:
    task: asyncio.Task[None] | None = None
    """Opens the watch and ends with it; None while there are too many."""
    watch: Watch[Followed] | None = None
    """None until it is its turn to be listed."""
    listeners: dict[Hashable, Changed] = field(default_factory=dict)


class Sources:
    """
    The watches.

    Args:
        lease: Of the watches that are shared with jobs.
        spawn: Starts a task, by its name.
        most: Watches at the same time.
    """

    def __init__(self, lease: Lease, spawn: Spawn, most: int = MOST_WATCHES) -> None:
        self._lease = lease
        self._spawn = spawn
        self.most = most
        self._shared: dict[Source, _Shared] = {}
        self._lists = asyncio.Semaphore(_LISTS)

    @property
    def count(self) -> int:
        """Watches that are open, or about to be."""
        return sum(shared.task is not None for shared in self._shared.values())

    def want(self, listener: Hashable, sources: set[Source], changed: Changed) -> None:
        """
        Watch these sources for a listener, and no others.

        Args:
            listener: Who; without sources it is forgotten.
            sources: Where.
            changed: Called with a source and a key whenever something changed there; with EVERYTHING once the source
                was listed, or is known not to be to be had.
        """
        for source in [one for one, shared in self._shared.items() if listener in shared.listeners]:
            if source not in sources:
                self._release(source, listener)
        for source in sources:
            shared = self._shared.setdefault(source, _Shared())
            shared.listeners[listener] = changed
            if shared.watch is not None and shared.watch.synced.is_set():
                changed(source, EVERYTHING)
        self._open()

    def seen(self, source: Source, key: Key) -> Followed | None:
        """Return what was last seen of an object; None: it is not there, or cannot be seen."""
        watch = self._shared[source].watch
        return None if watch is None else watch.objects.get(key)

    def denied(self, source: Source) -> KubeError | None:
        """Return why a source cannot be seen."""
        watch = self._shared[source].watch
        return None if watch is None else watch.denied

    def is_left_out(self, source: Source) -> bool:
        """Tell whether a source is not watched as there are too many."""
        return self._shared[source].task is None

    def retry(self) -> None:
        """Try again what was refused: rights are granted later, and kinds installed."""
        for source, shared in self._shared.items():
            if shared.watch is not None and shared.watch.denied is not None:
                self._stop(shared)
                self._start(source, shared)

    def close(self) -> None:
        """Open no further watch: whoever spawns their tasks is about to end them all."""
        self.most = 0

    def _open(self) -> None:
        for source, shared in self._shared.items():
            if shared.task is None and self.count < self.most:
                self._start(source, shared)
            elif shared.task is None:
                self._tell(source, EVERYTHING)

    def _start(self, source: Source, shared: _Shared) -> None:
        resource, namespace, name = source

        async def follow() -> None:
            async with self._lists:
                watch = shared.watch = self._lease.open(
                    resource,
                    namespace,
                    Follow.of(resource),
                    lambda key: self._tell(source, key),
                    name=name,
                    label_selector=OWNER_LABEL,
                )
                if watch.synced.is_set():
                    self._tell(source, EVERYTHING)
                else:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LIST_SECONDS):
                            await watch.synced.wait()
            await self._lease.ended(watch)

        shared.task = self._spawn(follow(), f"drift/watch {resource.plural} {namespace}")

    def _tell(self, source: Source, key: Key) -> None:
        for changed in list(self._shared[source].listeners.values()):
            changed(source, key)

    def _release(self, source: Source, listener: Hashable) -> None:
        shared = self._shared[source]
        del shared.listeners[listener]
        if not shared.listeners:
            self._stop(shared)
            del self._shared[source]

    def _stop(self, shared: _Shared) -> None:
        if shared.task is not None:
            shared.task.cancel()
        if shared.watch is not None:
            self._lease.close(shared.watch)
        shared.watch = shared.task = None
