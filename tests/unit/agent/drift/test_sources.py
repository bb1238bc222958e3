"""Watches for drift: what a source that does not answer keeps from the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fairlead_agent.drift.sources import Sources
from fairlead_agent.health.targets import Source
from fairlead_agent.kube.access import ClusterAccess
from fairlead_agent.kube.client import KubeClient, Page
from fairlead_agent.kube.resources import CONFIG_MAPS, Resource
from fairlead_agent.kube.shared_watches import Lease, SharedWatches
from fairlead_agent.kube.watch import EVERYTHING


class _Lists(KubeClient):
    """A client to which only the namespace `shop` answers."""

    def __init__(self) -> None:
        super().__init__(ClusterAccess("https://none.invalid", Path("ca.crt"), Path("token")))

    async def page(self, resource: Resource, namespace: str, **_: Any) -> Page:  # noqa: ANN401
        """Return an empty list, or nothing for ever."""
        if namespace != "shop":
            await asyncio.Event().wait()
        return Page([], "1", "")

    def watch(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        """Tell of nothing."""
        return _silence()


@asynccontextmanager
async def _silence() -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    async def nothing() -> AsyncIterator[dict[str, Any]]:
        await asyncio.Event().wait()
        yield {}

    yield nothing()


async def test_lists_that_never_end_do_not_keep_others_from_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as of kinds whose API is served by something that is away."""
    monkeypatch.setattr("fairlead_agent.drift.sources.LIST_SECONDS", 0.05)
    listed = asyncio.Event()

    def changed(source: Source, key: object) -> None:
        if (source[1], key) == ("shop", EVERYTHING):
            listed.set()

    async with SharedWatches(_Lists()) as watches, asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []

        def spawn(work: Any, name: str) -> asyncio.Task[None]:  # noqa: ANN401
            tasks.append(group.create_task(work, name=name))
            return tasks[-1]

        sources = Sources(Lease(watches), spawn)
        for namespace in (*map(str, range(9)), "shop"):
            sources.want(namespace, {(CONFIG_MAPS, namespace, "")}, changed)
        async with asyncio.timeout(60):
            await listed.wait()
        for task in tasks:
            task.cancel()
