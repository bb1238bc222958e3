"""The engine while its API server crashes, or another takes over: nothing is lost, done twice, or missed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairlead_agent.kube.access import ClusterAccess
from fairlead_agent.kube.client import KubeClient
from fairlead_shared.progress import ProgressEvent
from tests.cluster.access import connect
from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import API_PORT, OTHER_API_PORT
from tests.cluster.fixtures import MakeCluster
from tests.cluster.process import Process
from tests.e2e.balancer import Balancer
from tests.e2e.engine_world import Checkpoint, Story, World, config_map, world
from tests.e2e.test_engine_deploy import assert_succeeded
from tests.e2e.test_engine_order import POD_RULES, make_ready, pod

OBJECTS = 150


@pytest.fixture(scope="module")
def crashing(clusters: MakeCluster) -> Iterator[Cluster]:
    """Return a control plane of this file's own, since others would not like what happens to it."""
    cluster = clusters("crashing", nodes=0)
    yield cluster
    cluster.down()


@pytest.fixture
async def place(crashing: Cluster, tmp_path: Path) -> AsyncIterator[World]:
    """Make namespaces where pods may be written."""
    async with world(crashing, tmp_path / "agent", rules=POD_RULES) as made:
        yield made


class Teller(Story):
    """A story that says when something about an object came."""

    def __init__(self, objects: int) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self._left = objects

    async def report(self, event: ProgressEvent) -> None:
        """Take an event."""
        await super().report(event)
        if event.type in {"object", "health"}:
            self._left -= 1
            if self._left == 0:
                self.reached.set()


async def test_writes_go_on_after_a_crash_of_the_api_server(place: World) -> None:
    """It dies among the writes; what was under way is done again, and each object is there once and whole."""
    story = Teller(OBJECTS // 4)
    work = place.work([config_map(f"part-{number}", number=str(number)) for number in range(OBJECTS)])
    running = asyncio.create_task(place.engine().run(work, story.report, Checkpoint()))
    await story.reached.wait()
    start_again = await asyncio.to_thread(place.cluster.crash_api_server)
    assert not running.done()
    await asyncio.to_thread(start_again)
    result = await running
    assert_succeeded(result, created=OBJECTS)
    shown = await place.kubectl(
        "get", "configmap", "-n", place.namespace, "-l", "fairlead.dev/owner", "-o", "jsonpath={.items[*].data.number}"
    )
    assert sorted(shown.split(), key=int) == [str(number) for number in range(OBJECTS)]


async def test_what_becomes_ready_around_a_crash_is_seen(place: World) -> None:
    """The watches break with the API server; one pod becomes ready as soon as it is back, however they stand then."""
    story = Teller(2)
    work = place.work([pod("first"), pod("second")], wait_seconds=60)
    running = asyncio.create_task(place.engine().run(work, story.report, Checkpoint()))
    await story.reached.wait()
    await make_ready(place, "first")
    start_again = await asyncio.to_thread(place.cluster.crash_api_server)
    await asyncio.to_thread(start_again)
    await make_ready(place, "second")
    assert_succeeded(await running, created=2)


@asynccontextmanager
async def two_api_servers(place: World) -> AsyncIterator[tuple[KubeClient, Process]]:
    """Yield a client that one balanced address leads to a second API server, until that process is killed."""
    cluster = place.cluster
    address = cluster.server.removeprefix("https://").rpartition(":")[0]
    other = await asyncio.to_thread(cluster.other_api_server)
    try:
        with Balancer([OTHER_API_PORT, API_PORT], lambda port: connect(cluster.netns, address, port)) as balancer:
            access = ClusterAccess(f"https://127.0.0.1:{balancer.port}", cluster.ca_file, place.directory / "token")
            async with KubeClient(access) as client:
                yield client, other
    finally:
        other.kill()


async def test_writes_go_on_at_another_api_server(place: World) -> None:
    """The one that the agent talks to dies among the writes, for good."""
    story = Teller(OBJECTS // 4)
    work = place.work([config_map(f"part-{number}", number=str(number)) for number in range(OBJECTS)])
    async with two_api_servers(place) as (client, other):
        running = asyncio.create_task(place.engine(client).run(work, story.report, Checkpoint()))
        await story.reached.wait()
        other.kill()
        assert not running.done()
        assert_succeeded(await running, created=OBJECTS)
    shown = await place.kubectl("get", "configmap", "-n", place.namespace, "-l", "fairlead.dev/owner", "-o", "name")
    assert len(shown.split()) == OBJECTS


async def test_what_becomes_ready_around_a_failover_is_seen(place: World) -> None:
    """Nobody may watch when one pod becomes ready: the API server that answers next is asked for what is."""
    story = Teller(3)
    work = place.work([pod("first"), pod("second"), pod("third")], wait_seconds=60)
    async with two_api_servers(place) as (client, other):
        running = asyncio.create_task(place.engine(client).run(work, story.report, Checkpoint()))
        await story.reached.wait()
        await make_ready(place, "first")
        other.kill()
        await make_ready(place, "second")
        await make_ready(place, "third")
        assert_succeeded(await running, created=3)
