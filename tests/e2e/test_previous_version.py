"""
Two versions side by side: a relay and agents of the previous one, by their wheels, and either side upgraded first.

Operators upgrade relays and agents at different times, weeks apart; nothing may be lost meanwhile, nor after.
"""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.installation import Installation, make_installation
from tests.e2e.test_deploy import config_map
from tests.integration.relay_process import RelayProcess
from tests.polling import PATIENCE_SECONDS, wait_until

WHEELS = Path(__file__).parents[1] / "previous"


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the packages of the previous version, for PYTHONPATH."""
    directory = tmp_path_factory.mktemp("previous")
    for wheel in WHEELS.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(directory)
    for package in ("fairlead_shared", "fairlead_agent", "fairlead_relay"):
        found = subprocess.run(
            [sys.executable, "-c", f"import {package}; print({package}.__file__)"],
            env=os.environ | {"PYTHONPATH": str(directory)},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_SECONDS,
        )
        assert Path(found.stdout.strip()).is_relative_to(directory), "today's package hides the previous one"
    return directory


@dataclass
class AnyRelay(RelayProcess):
    """A relay of either version; its commands are of its version too."""

    def token(self, role: str = "admin", organization: str = "acme", expires: str = "1h") -> str:
        """Create an API token by the relay's own command."""
        command = [sys.executable, "-m", "fairlead_relay", "token", "create", "--data-dir", str(self.data_dir)]
        command += ["--organization", organization, "--role", role, "--expires", expires]
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def upgrade(self) -> None:
        """Stop, and start as today's version on the same data."""
        assert self.stop() == 0
        del self.environment["PYTHONPATH"]
        self.start()


@pytest.fixture
def previous_relay(previous: Path, control_plane: Cluster, tmp_path: Path) -> Iterator[AnyRelay]:
    """Run a relay of the previous version."""
    names = f"localhost,127.0.0.1,{control_plane.outside_address}"
    environment = {"FAIRLEAD_RELAY_SERVER_NAMES": names, "PYTHONPATH": str(previous)}
    process = AnyRelay(tmp_path / "relay", agent_host="0.0.0.0", environment=environment)
    try:
        process.start()
        control_plane.allow(process.agent_port)
        yield process
    finally:
        process.close()


def hold_works(place: Installation, name: str) -> None:
    """A deployment runs to its end with its whole story, and so does one that changes something."""
    before = place.names("configmap")
    first = place.succeed([config_map(name, colour="blue")])
    assert first["counts"] == {"created": 1} | ({"pruned": len(before)} if before else {})
    assert place.live("configmap", name)["data"] == {"colour": "blue"}
    story = place.story(first["id"])
    assert len(story) == len(set(story))
    assert story[-1] == "result"
    assert place.succeed([config_map(name, colour="red")])["counts"] == {"changed": 1}
    place.until_no_checkpoint()


def test_previous_agent_with_todays_relay(
    previous: Path, relay: RelayProcess, control_plane: Cluster, tmp_path: Path
) -> None:
    """It enrols, deploys, refuses what it does not know, outlives a restart of the relay, and is then upgraded."""
    with closing(make_installation(relay, control_plane, tmp_path)) as place:
        place.agent.start(PYTHONPATH=str(previous))
        place.until_agent("connected")
        hold_works(place, "before")
        bundle_sha256 = place.api.ask("GET", place.environment)["current"]["bundle_sha256"]
        refused = plan(place, bundle_sha256)
        assert (refused["state"], refused["code"]) == ("refused", "unsupported")
        relay.kill()
        relay.start()
        hold_works(place, "between")
        assert place.agent.stop() == 0
        place.agent.start()
        assert plan(place, bundle_sha256)["state"] == "succeeded"
        hold_works(place, "after")


def plan(place: Installation, bundle_sha256: str) -> dict[str, Any]:
    """Ask for a plan, and return its job once it has ended."""
    made = place.api.ask("POST", f"{place.environment}/plans", {"bundle_sha256": bundle_sha256}, 202)
    path = f"/v1/organizations/{place.organization}/jobs/{made['id']}"
    return wait_until(lambda: (job := place.api.ask("GET", path))["finished_at"] and job, "the plan to end")


def test_todays_agent_with_the_previous_relay(previous_relay: AnyRelay, control_plane: Cluster, tmp_path: Path) -> None:
    """It enrols and deploys, and goes on when the relay is upgraded over its data."""
    with closing(make_installation(previous_relay, control_plane, tmp_path)) as place:
        place.agent.start()
        place.until_agent("connected")
        hold_works(place, "before")
        previous_relay.upgrade()
        hold_works(place, "after")


def test_both_are_upgraded_while_a_deployment_waits(
    previous: Path, previous_relay: AnyRelay, control_plane: Cluster, tmp_path: Path
) -> None:
    """What the previous relay queued for an offline agent is carried out by today's two, once."""
    with closing(make_installation(previous_relay, control_plane, tmp_path)) as place:
        place.agent.start(PYTHONPATH=str(previous))
        place.until_agent("connected")
        hold_works(place, "before")
        place.agent.kill()
        waiting = place.deploy([config_map("waited")])
        previous_relay.upgrade()
        place.agent.start()
        assert place.until_final(waiting)["counts"] == {"created": 1, "pruned": 1}
        wait_until(lambda: place.names("configmap") == {"waited"}, "the effect")
