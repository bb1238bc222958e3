"""
Two relays on one PostgreSQL behind one address, and a real agent in a private cluster: either serves, either may die.

The agent is connected to one and everything is asked of the other. A relay that is killed stays away until its test is
over: the agent must have gone on at the other.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from fairlead_shared.jobs import JobState
from tests.cluster.cluster import Cluster
from tests.conformance.postgresql import running_postgresql
from tests.e2e.balancer import Balancer
from tests.e2e.installation import Installation, Record, make_installation
from tests.e2e.moments import MOMENTS, hold_done_once, manifests, until_journal_has
from tests.integration.relay_process import Api, RelayProcess
from tests.polling import PATIENCE_SECONDS


@dataclass
class Pair:
    """Both relays, and one installation whose API is that of the relay where its agent is not."""

    place: Installation
    clients: dict[int, Api]
    """By the port that agents dial."""
    home: RelayProcess
    """Where the agent is."""
    other: RelayProcess
    balancer: Balancer

    def swap(self) -> None:
        """Note that the agent is at the other now, and ask the one it left."""
        self.home, self.other = self.other, self.home
        self.balancer.targets = [self.home.agent_port, self.other.agent_port]
        self.place.relay, self.place.api = self.other, self.clients[self.other.agent_port]


@pytest.fixture(scope="module")
def pair(control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Share both among the tests; each leaves both running, and the agent at one of them."""
    folder = tmp_path_factory.mktemp("two-relays")
    names = f"localhost,127.0.0.1,{control_plane.outside_address}"
    with running_postgresql() as server:
        settings = {"FAIRLEAD_RELAY_DATABASE_URL": server.make_database(), "FAIRLEAD_RELAY_SERVER_NAMES": names}
        other, home = (RelayProcess(folder / name, environment=settings) for name in ("first", "second"))
        try:
            other.start()
            home.data_dir.mkdir(mode=0o700)
            shutil.copytree(other.data_dir / "pki", home.data_dir / "pki")
            home.start()
            with Balancer([home.agent_port, other.agent_port]) as balancer:
                control_plane.allow(balancer.port)
                (folder / "agent").mkdir()
                place = make_installation(other, control_plane, folder / "agent")
                place.agent.relay_url = f"wss://{control_plane.outside_address}:{balancer.port}"
                token = other.token("admin", place.organization)
                clients = {relay.agent_port: relay.client(token) for relay in (home, other)}
                place.agent.start()
                place.until_agent("connected")
                yield Pair(place, clients, home, other, balancer)
                place.close()
        finally:
            other.close()
            home.close()


@pytest.fixture
def readers() -> Iterator[ThreadPoolExecutor]:
    """Threads that follow streams."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def following(readers: ThreadPoolExecutor, api: Api, place: Installation, deployment_id: str) -> Future[list[Record]]:
    """Follow a deployment's live stream at one relay until it ends by itself."""

    def follow() -> list[Record]:
        path = f"{place.path}/deployments/{deployment_id}/events"
        with api.stream("GET", path, headers={"Accept": "application/x-ndjson"}, timeout=90) as answer:
            return [json.loads(line) for line in answer.iter_lines()]

    return readers.submit(follow)


def test_an_agent_at_one_relay_carries_out_what_the_other_was_asked(pair: Pair, readers: ThreadPoolExecutor) -> None:
    """Bundle, plan and cancel come by the database; both relays tell the same story live, whole and once."""
    place = pair.place
    deployment_id = place.deploy(manifests("asked"), consents=["prune"])
    streams = [following(readers, api, place, deployment_id) for api in pair.clients.values()]
    hold_done_once(place, deployment_id, "asked")
    stored = place.records(deployment_id)
    assert [stream.result(PATIENCE_SECONDS) for stream in streams] == [stored, stored]
    positions = [record["id"] for record in stored]
    assert positions == sorted(set(positions))
    assert place.deployment(deployment_id)["job"]["attempt"] == 1


@pytest.mark.parametrize("moment", ["accepted", "planned", "half", "result"])
def test_an_agent_whose_relay_is_killed_goes_on_at_the_other(
    pair: Pair, readers: ThreadPoolExecutor, moment: str
) -> None:
    """The deployment ends once, and who follows it at the other sees each event once."""
    place = pair.place
    deployment_id = place.deploy(manifests(f"k-{moment}"), consents=["prune"])
    stream = following(readers, place.api, place, deployment_id)
    until_journal_has(place, MOMENTS[moment], deployment_id)
    pair.home.kill()
    hold_done_once(place, deployment_id, f"k-{moment}")
    assert stream.result(PATIENCE_SECONDS) == place.records(deployment_id)
    shown = place.deployment(deployment_id)
    assert (shown["state"], shown["job"]["attempt"]) == (JobState.SUCCEEDED, 1)
    place.until_agent("connected")
    pair.home.start()
    pair.swap()
