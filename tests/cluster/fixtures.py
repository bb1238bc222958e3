"""
Pytest fixtures on clusters; load with `-p tests.cluster.fixtures` or `pytest_plugins`.

Every cluster is up for one session and owned by its process: names hold the process id and a random part, so suites
run side by side; what a killed session leaves is cleared by the next. Must not: cost anything until a test asks.
"""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.registry import Registry, session_registry

if TYPE_CHECKING:
    from collections.abc import Iterator


pytest_plugins = ["tests.cluster.left_out"]


class MakeCluster(Protocol):
    """What the fixture `clusters` gives: a function that starts one more cluster."""

    def __call__(self, purpose: str, *, nodes: int = 0) -> Cluster:
        """Start a cluster named after `purpose` (at most 12 characters) with that many real nodes."""


@pytest.fixture(scope="session")
def clusters() -> Iterator[MakeCluster]:
    """Start clusters on demand, several side by side if asked; all are down when the session ends, also by Ctrl-C."""
    with ExitStack() as stack:

        def make(purpose: str, *, nodes: int = 0) -> Cluster:
            cluster = Cluster.up(f"{purpose}-{os.getpid()}-{secrets.token_hex(3)}", nodes=nodes)
            stack.callback(cluster.down)
            return cluster

        yield make


@pytest.fixture(scope="session")
def cluster(clusters: MakeCluster) -> Cluster:
    """Return the session's cluster with one real node: pods run, probes answer, images are pulled."""
    return clusters("real", nodes=1)


@pytest.fixture(scope="session")
def control_plane(clusters: MakeCluster) -> Cluster:
    """Return the session's control plane without nodes: up in seconds, for everything that needs no running pod."""
    return clusters("plane")


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """Serve this machine's images; a test admits its cluster (`registry.admit(cluster)`) before pods pull."""
    with session_registry() as serving:
        yield serving
