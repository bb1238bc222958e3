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

from tests.cluster.binaries import expected_seconds, is_built
from tests.cluster.cluster import Cluster
from tests.cluster.progress import seconds_text
from tests.cluster.registry import Registry, session_registry
from tests.fault.scale import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator


_LEFT_OUT = pytest.StashKey[dict[str, int]]()
"""Number of tests left out for want of a program, by program."""


def pytest_configure(config: pytest.Config) -> None:
    """Explain the marker `builds`."""
    config.addinivalue_line(
        "markers",
        "builds(program, ...): needs programs that take minutes to build and that no other test needs; left out where"
        " they are not built, except with FAIRLEAD_FAULT=full",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Leave out tests whose programs are not built here, except in the full form, which builds them.

    Traefik and metrics-server take ten minutes of two cores together, for two tests: a first run on a fresh machine
    already builds for a quarter of an hour, and has a time limit. Where they are built, their tests cost seconds.
    """
    if FULL:
        return
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    counts = config.stash.setdefault(_LEFT_OUT, {})
    for item in items:
        missing = next((name for name in _programs(item) if not is_built(name)), None)
        (left_out if missing else kept).append(item)
        if missing:
            counts[missing] = counts.get(missing, 0) + 1
    if left_out:
        items[:] = kept
        config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which tests were left out and what runs them: nobody should have to wonder."""
    for program, count in config.stash.get(_LEFT_OUT, {}).items():
        terminalreporter.write_line(
            f"tests left out because {program} is not built on this machine: {count}; FAIRLEAD_FAULT=full builds it,"
            f" once, in about {seconds_text(expected_seconds(program))}"
        )


def _programs(item: pytest.Item) -> Iterator[str]:
    for marker in item.iter_markers("builds"):
        yield from marker.args


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
