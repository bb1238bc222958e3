"""Watches that several jobs look through, against a scripted API server."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fairlead_agent.health.targets import Target
from fairlead_agent.health.wait import HealthWait
from fairlead_agent.kube import shared_watches as module
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import CONFIG_MAPS, Resource
from fairlead_agent.kube.shared_watches import SharedWatches
from fairlead_agent.kube.watch import EVERYTHING, Key
from fairlead_shared.objects import ObjectRef
from tests.integration.agent.kube.test_watch import SILENT, item, listed, streamed
from tests.integration.scripted_api_server import Answer, ScriptedApiServer, says, scripted_api_server
from tests.polling import PATIENCE_SECONDS, eventually


def kept(manifest: Any) -> str:  # noqa: ANN401  (JSON)
    """Keep one value."""
    return str(manifest["data"].get("x", ""))


@asynccontextmanager
async def sharing(
    directory: Path, *answers: Answer
) -> AsyncIterator[tuple[ScriptedApiServer, KubeClient, SharedWatches]]:
    """Share watches of a server that gives these answers."""
    async with scripted_api_server(directory) as server:
        server.answers = list(answers)
        async with KubeClient(server.access, patience_seconds=0.2) as client, SharedWatches(client) as watches:
            yield server, client, watches


async def open_watches(client: KubeClient, count: int) -> None:
    """Wait until so many are open."""

    async def holds() -> bool:
        return client.transport.watches == count

    await eventually(holds, f"{count} watches to be open")


async def test_jobs_at_the_same_time_and_after_each_other_look_through_one_watch(tmp_path: Path) -> None:
    """One list and one connection; each is told of changes for as long as it looks."""
    change, told = asyncio.Event(), streamed(("ADDED", item("b", 6, x="2")), then="silence")

    async def later(request: Any) -> Any:  # noqa: ANN401
        await change.wait()
        return await told(request)

    async with sharing(tmp_path, listed(5, item("a", 5, x="1")), later) as (server, client, watches):
        first: list[Key] = []
        second: list[Key] = []
        with watches.lease() as one:
            seen = one.open(CONFIG_MAPS, "shop", kept, first.append)
            await seen.synced.wait()
            with watches.lease() as other:
                assert other.open(CONFIG_MAPS, "shop", kept, second.append) is seen
                change.set()
                await seen.reached(["6"])
        assert (first, second) == ([("shop", "a"), EVERYTHING, ("shop", "b")], [("shop", "b")])
        with watches.lease() as third:
            again = third.open(CONFIG_MAPS, "shop", kept, first.append)
            await again.reached(["6"])
            assert again.objects == {("shop", "a"): "1", ("shop", "b"): "2"}
        assert len(server.asked) == 2
        await open_watches(client, 1)
    await open_watches(client, 0)


async def test_watch_that_nobody_uses_is_closed_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once where too many are kept like that."""
    monkeypatch.setattr(module, "MOST_IDLE", 1)
    async with sharing(tmp_path, listed(5), SILENT, listed(5), SILENT) as (_, client, watches):
        for namespace in ("shop", "till"):
            with watches.lease() as lease:
                lease.open(CONFIG_MAPS, namespace, kept, lambda _: None)
                await open_watches(client, 1 if namespace == "shop" else 2)
        await open_watches(client, 1)
        monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
        with watches.lease() as lease:
            lease.open(CONFIG_MAPS, "till", kept, lambda _: None)
        await open_watches(client, 0)


async def test_what_was_denied_is_tried_again_by_the_next(tmp_path: Path) -> None:
    """Rights are granted between one job and another."""
    message = 'User "x" cannot list resource "configmaps" in API group "" in the namespace "shop"'
    denial = says(403, {"kind": "Status", "message": message})
    async with sharing(tmp_path, denial, denial, listed(5), SILENT) as (_, _client, watches):
        for is_denied in (True, False):
            with watches.lease() as lease:
                watch = lease.open(CONFIG_MAPS, "shop", kept, lambda _: None)
                await watch.reached(["5"])
                assert (watch.denied is not None) is is_denied


async def test_watch_that_is_denied_while_nobody_uses_it_does_not_end_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time after which it would have been closed means nothing any more."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.5)
    expired = says(410, {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
    denial = says(403, {"kind": "Status", "message": 'User "x" cannot list resource "configmaps"'})
    is_left, left = asyncio.Event(), streamed(("ADDED", item("a", 6, x="1")), then="silence")

    async def later(request: Any) -> Any:  # noqa: ANN401
        await is_left.wait()
        return await expired(request)

    answers = [listed(5), later, denial, denial, listed(5), left]
    async with sharing(tmp_path, *answers) as (_, client, watches):
        with watches.lease() as lease:
            first = lease.open(CONFIG_MAPS, "shop", kept, lambda _: None)
            await first.synced.wait()
        is_left.set()

        async def is_denied() -> bool:
            return first.denied is not None

        await eventually(is_denied, "the watch to be denied")
        with watches.lease() as lease:
            second = lease.open(CONFIG_MAPS, "shop", kept, lambda _: None)
            await second.reached(["6"])
            closes = asyncio.get_running_loop().time() + 2 * module.IDLE_SECONDS

            async def is_past() -> bool:
                return asyncio.get_running_loop().time() > closes

            await eventually(is_past, "the first one's time to be over")
            assert (second is not first, client.transport.watches) == (True, 1)


async def test_defect_of_a_watch_is_raised_where_it_is_used(tmp_path: Path) -> None:
    """It wakes whoever waits for a change, who would wait in vain."""

    def broken(_manifest: Any) -> str:  # noqa: ANN401  (JSON)
        raise ArithmeticError

    async with sharing(tmp_path, listed(5, item("a", 5))) as (_, _client, watches):
        woken = asyncio.Event()
        with watches.lease() as lease:
            lease.open(CONFIG_MAPS, "shop", broken, lambda _: woken.set())
            lease.hold_sound()
            await asyncio.wait_for(woken.wait(), PATIENCE_SECONDS)
            with pytest.raises(ArithmeticError):
                lease.hold_sound()


async def test_defect_of_a_watch_ends_the_wait_for_health_that_has_just_begun(tmp_path: Path) -> None:
    """It waits for the first list, which never comes: not until its time is over, as if the API server were away."""
    deployments = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)
    web = Target(ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web"), deployments)

    async def report(_event: object) -> None:
        """Take what nobody should tell."""

    without_uid = listed(5, {"metadata": {"name": "web", "namespace": "shop"}, "spec": {}, "status": {}})
    async with sharing(tmp_path, without_uid) as (_, _client, watches):
        waiting = HealthWait(watches, report, time.time).wait([web], 10 * PATIENCE_SECONDS)
        with pytest.raises(KeyError, match="uid"):
            await asyncio.wait_for(waiting, PATIENCE_SECONDS)


async def test_one_watch_is_given_up_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no end while it is followed, and a selector of labels makes it another one."""
    async with sharing(tmp_path, listed(5), SILENT, listed(5), SILENT) as (server, client, watches):
        with watches.lease() as lease:
            first = lease.open(CONFIG_MAPS, "shop", kept, lambda _: None, label_selector="owner=us")
            await open_watches(client, 1)
            second = lease.open(CONFIG_MAPS, "shop", kept, lambda _: None)
            await open_watches(client, 2)
            assert [one.query.get("labelSelector") for one in server.asked] == ["owner=us", "owner=us", None, None]
            end = asyncio.create_task(lease.ended(second))
            monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
            lease.close(first)
            assert [one.watch for one in lease.held.values()] == [second]
            await open_watches(client, 1)
            assert not end.done()
            end.cancel()


async def test_end_of_a_watch_tells_a_defect_from_a_refusal(tmp_path: Path) -> None:
    """The one is raised, the other is in `denied`."""

    def broken(_manifest: Any) -> str:  # noqa: ANN401  (JSON)
        raise ArithmeticError

    denial = says(403, {"kind": "Status", "message": 'User "x" cannot list resource "configmaps"'})
    async with sharing(tmp_path, denial, denial, listed(5, item("a", 5))) as (_, _client, watches):
        with watches.lease() as lease:
            refused = lease.open(CONFIG_MAPS, "shop", kept, lambda _: None)
            await asyncio.wait_for(lease.ended(refused), PATIENCE_SECONDS)
            assert refused.denied is not None
            with pytest.raises(ArithmeticError):
                await asyncio.wait_for(
                    lease.ended(lease.open(CONFIG_MAPS, "shop", broken, lambda _: None)), PATIENCE_SECONDS
                )
