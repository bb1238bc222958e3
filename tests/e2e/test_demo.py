"""`make demo`, as people run it: to its end, interrupted, and on a cluster of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.binaries import binary
from tests.cluster.controlplane import API_PORT
from tests.cluster.demo_images import demo_images
from tests.cluster.record import records
from tests.cluster.registry import session_registry
from tests.product.images import Member, product_image

if TYPE_CHECKING:
    from tests.cluster.fixtures import MakeCluster

ROOT = Path(__file__).parents[2]
DEMO_SECONDS = 500.0
STEPS = 9
MEMBERS: tuple[Member, ...] = ("relay", "agent")


class Demo:
    """A running demo, whose output is read as it comes."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Start it with these environment variables beyond the usual."""
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.demo"],
            cwd=ROOT,
            env={**os.environ, "CI": "1", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def until(self, pattern: str) -> re.Match[str]:
        """Read on until a line matches, and return the match."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if (found := re.search(pattern, line)) is not None:
                return found
        raise AssertionError(f"the demo ended without {pattern!r}:\n{self.output}")

    def end(self) -> int:
        """Read to the end and return the exit code."""
        rest, _ = self.process.communicate(timeout=DEMO_SECONDS)
        self.output += rest
        return self.process.returncode

    def leftovers(self) -> list[str]:
        """Name what the demo recorded and did not clear."""
        return [record.name for record in records() if record.name.startswith(f"demo-{self.process.pid}")]

    def close(self) -> None:
        """End it, if a failed test left it running, in the way that lets it tidy up."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.communicate(timeout=DEMO_SECONDS)


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build everything first, in a fixture, which may take as long as it takes; the demos find it done."""
    for program in ("kube-apiserver", "containerd", "coredns", "storage", "helm"):
        binary(program)
    with session_registry() as registry:
        for member in MEMBERS:
            product_image(registry, member)
        demo_images(registry)


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    """Hold the demos of a test; none outlives it."""
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.close()


def test_the_demo_tells_its_story_to_the_end(demos: list[Demo]) -> None:
    """Deployed, answered, broken with its reason, rolled back, pruned; a KUBECONFIG that is set changes nothing."""
    demos.append(demo := Demo({"KUBECONFIG": "/nonexistent", "FAIRLEAD_TOKEN": "of-another-relay"}))
    assert demo.end() == 0, demo.output
    assert f"── {STEPS} of {STEPS}" in demo.output
    for expected in (
        "harbour/demo succeeded",
        '"name": "Albatross"',
        "the API server",
        "cannot pull image",
        "broken/app.yaml:",
        "pruned Job harbour/migrate-1",
        '"tonnage"',
        "harbour/demo: Healthy",
    ):
        assert expected in demo.output, f"no {expected!r} in:\n{demo.output}"
    assert demo.leftovers() == []
    # The page about the demo shows what it really runs.
    shown = re.findall(r"^\$ (.+)$", (ROOT / "docs" / "demo.md").read_text(), re.MULTILINE)
    assert shown
    assert [command for command in shown if f"$ {command}" not in demo.output] == []


def test_an_interrupted_demo_tidies_up(demos: list[Demo]) -> None:
    """Ctrl-C in the middle of a step: everything goes, and the exit code says why it ended."""
    demos.append(demo := Demo({}))
    demo.until(r"── 3 of ")
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.end() == 128 + signal.SIGINT, demo.output
    assert demo.leftovers() == []


def test_the_demo_runs_on_a_cluster_of_the_users_own(demos: list[Demo], clusters: MakeCluster, tmp_path: Path) -> None:
    """DEMO_CONTEXT names it; the demo says which it is, stays in its own namespaces and deletes them."""
    cluster = clusters("own", nodes=1)
    cluster.open_inwards(API_PORT)
    before = cluster.kubectl("get", "namespaces", "--output=name").stdout
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(cluster.kubeconfig.read_bytes())
    (context,) = cluster.kubectl("config", "get-contexts", "--output=name").stdout.split()
    with session_registry() as registry:
        registry.admit(cluster)
        variables = {
            "DEMO_CONTEXT": context,
            "KUBECONFIG": str(kubeconfig),
            "DEMO_REGISTRY": f"http://{registry.address}",
        }
        demos.append(demo := Demo(variables))
        demo.until(rf"context {re.escape(context)} at {re.escape(cluster.server)}")
        assert demo.end() == 0, demo.output
    assert "pruned Job" in demo.output
    assert cluster.kubectl("get", "namespaces", "--output=name").stdout == before


def test_the_demo_asks_for_what_it_needs_of_a_cluster_of_ones_own(demos: list[Demo], tmp_path: Path) -> None:
    """An unknown context, or no registry, ends it with one sentence before anything is made."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("apiVersion: v1\nkind: Config\n")
    demos.append(demo := Demo({"DEMO_CONTEXT": "nobody", "KUBECONFIG": str(kubeconfig)}))
    assert demo.end() == 1
    assert "nobody" in demo.output.splitlines()[-1]
    assert demo.leftovers() == []
