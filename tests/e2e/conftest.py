"""
Fixtures of the whole product: a relay process, and an agent process inside a private cluster.

    relay         one relay for the session; the control plane may dial its agent port
    relay_cluster a cluster with two real nodes, for relays that are installed by their chart
    installation  an organization with its agent, started and connected; of its own for each test
    agent, api    the installation's two ends
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import MakeCluster
from tests.e2e.installation import AgentProcess, Installation, make_installation
from tests.integration.relay_process import Api, RelayProcess

Install = Callable[..., Installation]


@pytest.fixture(scope="session")
def relay(control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """Run one relay for the session; tests may kill it and start it again."""
    directory = tmp_path_factory.mktemp("e2e-relay") / "data"
    names = f"localhost,127.0.0.1,{control_plane.outside_address}"
    process = RelayProcess(directory, agent_host="0.0.0.0", environment={"FAIRLEAD_RELAY_SERVER_NAMES": names})
    try:
        process.start()
        control_plane.allow(process.agent_port)
        yield process
    finally:
        process.close()


@pytest.fixture(scope="session")
def relay_cluster(clusters: MakeCluster) -> Cluster:
    """Return the session's cluster for relays as pods, with two nodes; each has a namespace and ports of its own."""
    return clusters("relay", nodes=2)


@pytest.fixture
def install(relay: RelayProcess, control_plane: Cluster, tmp_path: Path) -> Iterator[Install]:
    """Make installations whose agents are not started: `install()` or `install({"rights": [...]})`."""
    made: list[Installation] = []

    def make(rights: Mapping[str, Any] | None = None) -> Installation:
        directory = tmp_path / f"agent-{len(made)}"
        directory.mkdir()
        made.append(make_installation(relay, control_plane, directory, rights=rights))
        return made[-1]

    yield make
    for installation in made:
        installation.close()


@pytest.fixture
def installation(install: Install) -> Installation:
    """Return an installation whose agent is connected."""
    ready = install()
    ready.agent.start()
    ready.until_agent("connected")
    return ready


@pytest.fixture
def agent(installation: Installation) -> AgentProcess:
    """Return the installation's agent."""
    return installation.agent


@pytest.fixture
def api(installation: Installation) -> Api:
    """Return a client of the API as the installation's administrator."""
    return installation.api
