"""
SIGKILL of either side, at each step of a deployment: nothing is lost, nothing is told twice, nothing is done twice.

The moment is chosen by the agent's own journal: the test waits until so many events are on disk and kills at once.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from fairlead_shared.jobs import JobState
from tests.cluster.cluster import Cluster
from tests.e2e.installation import Installation, make_installation
from tests.integration.relay_process import RelayProcess

OBJECTS = 24
EVENTS = ["accepted", "verify", "fetching", "fetched", "preflight", "planned", "applying", "half", "applied", "result"]
"""What the journal holds when each moment comes."""
MOMENTS = dict(zip(EVENTS, (0, 1, 3, 4, 5, 6, 7, 7 + OBJECTS // 2, 7 + OBJECTS, 9 + OBJECTS), strict=True))


@pytest.fixture(scope="module")
def place(
    relay: RelayProcess, control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Share one installation among the crashes; each ends with everything in order."""
    made = make_installation(relay, control_plane, tmp_path_factory.mktemp("crash"))
    made.agent.start()
    made.until_agent("connected")
    yield made
    made.close()


def manifests(moment: str) -> list[dict[str, Any]]:
    """Return ConfigMaps that no other moment has."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{moment}-{number:02d}"},
            "data": {"moment": moment},
        }
        for number in range(OBJECTS)
    ]


def until_journal_has(place: Installation, lines: int, seconds: float = 30.0) -> None:
    """Watch the journal without a pause: a deployment takes a fraction of a second."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        journals = list((place.agent.spool / "events").glob("*.events"))
        if any(path.read_bytes().count(b"\n") > lines for path in journals):
            return
    raise TimeoutError(f"no journal had {lines} events within {seconds} s\n{place.agent.log[-2000:]}")


def hold_done_once(place: Installation, deployment_id: str, moment: str) -> None:
    """The deployment succeeded; its story is whole; each object was created once and is as it was created."""
    shown = place.until_final(deployment_id, 90)
    assert shown["state"] == JobState.SUCCEEDED, f"{shown}\n{place.agent.log[-4000:]}"
    assert shown["counts"]["created"] == OBJECTS
    keys = place.story(deployment_id)
    assert len(keys) == len(set(keys))
    created = {key for key in keys if key.endswith("/created")}
    assert created == {f"object/ConfigMap {place.namespace}/{moment}-{number:02d}/created" for number in range(OBJECTS)}
    assert [key for key in keys if key.startswith("step/") and key.endswith("/finished")] == [
        f"step/{step}/finished" for step in ("verify", "fetch", "preflight", "apply", "wait")
    ] + (["step/prune/finished"] if "step/prune/finished" in keys else [])
    assert keys[-1] == "result"
    assert {name for name in place.names("configmap") if name.startswith(moment)} == {
        f"{moment}-{number:02d}" for number in range(OBJECTS)
    }
    place.until_no_checkpoint()
    assert not list((place.agent.spool / "events").glob("*.events"))


@pytest.mark.parametrize("moment", EVENTS)
def test_killed_agent_continues(place: Installation, moment: str) -> None:
    """A SIGKILLed agent that starts again ends the same deployment, as if nothing had happened."""
    deployment_id = place.deploy(manifests(f"a-{moment}"))
    until_journal_has(place, MOMENTS[moment])
    place.agent.kill()
    place.agent.start()
    hold_done_once(place, deployment_id, f"a-{moment}")


@pytest.mark.parametrize("moment", ["accepted", "planned", "half", "result"])
def test_agent_that_lost_its_node_continues(place: Installation, moment: str) -> None:
    """Without journal and bundles the agent goes on from its checkpoint alone."""
    deployment_id = place.deploy(manifests(f"n-{moment}"))
    until_journal_has(place, MOMENTS[moment])
    place.agent.kill()
    place.agent.lose_spool()
    place.agent.start()
    hold_done_once(place, deployment_id, f"n-{moment}")


@pytest.mark.parametrize("moment", EVENTS)
def test_killed_relay_continues(place: Installation, moment: str) -> None:
    """A SIGKILLed relay that starts again hears the rest of the story."""
    deployment_id = place.deploy(manifests(f"r-{moment}"))
    until_journal_has(place, MOMENTS[moment])
    place.relay.kill()
    place.relay.start()
    hold_done_once(place, deployment_id, f"r-{moment}")


@pytest.mark.parametrize("moment", ["accepted", "half", "result"])
def test_both_killed_continue(place: Installation, moment: str) -> None:
    """Both sides die together and come back in either order."""
    deployment_id = place.deploy(manifests(f"b-{moment}"))
    until_journal_has(place, MOMENTS[moment])
    place.agent.kill()
    place.relay.kill()
    place.agent.start()
    place.relay.start()
    hold_done_once(place, deployment_id, f"b-{moment}")
