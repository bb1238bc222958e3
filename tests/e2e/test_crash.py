"""
SIGKILL of either side, at each step of a deployment: nothing is lost, nothing is told twice, nothing is done twice.

The moment is chosen by the agent's own journal: the test waits until so many events are on disk and kills at once.
"""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.installation import Installation, make_installation
from tests.e2e.moments import EVENTS, MOMENTS, hold_done_once, manifests, until_journal_has
from tests.integration.relay_process import RelayProcess


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


@pytest.mark.parametrize("moment", EVENTS)
def test_killed_agent_continues(place: Installation, moment: str) -> None:
    """A SIGKILLed agent that starts again ends the same deployment, as if nothing had happened."""
    deployment_id = place.deploy(manifests(f"a-{moment}"), consents=["prune"])
    until_journal_has(place, MOMENTS[moment], deployment_id)
    place.agent.kill()
    place.agent.start()
    hold_done_once(place, deployment_id, f"a-{moment}")


@pytest.mark.parametrize("moment", ["accepted", "planned", "half", "result"])
def test_agent_that_lost_its_node_continues(place: Installation, moment: str) -> None:
    """Without journal and bundles the agent goes on from its checkpoint alone."""
    deployment_id = place.deploy(manifests(f"n-{moment}"), consents=["prune"])
    until_journal_has(place, MOMENTS[moment], deployment_id)
    place.agent.kill()
    place.agent.lose_spool()
    place.agent.start()
    hold_done_once(place, deployment_id, f"n-{moment}")


@pytest.mark.parametrize("moment", EVENTS)
def test_killed_relay_continues(place: Installation, moment: str) -> None:
    """A SIGKILLed relay that starts again hears the rest of the story."""
    deployment_id = place.deploy(manifests(f"r-{moment}"), consents=["prune"])
    until_journal_has(place, MOMENTS[moment], deployment_id)
    place.relay.kill()
    place.relay.start()
    hold_done_once(place, deployment_id, f"r-{moment}")


@pytest.mark.parametrize("moment", ["accepted", "half", "result"])
def test_both_killed_continue(place: Installation, moment: str) -> None:
    """Both sides die together and come back in either order."""
    deployment_id = place.deploy(manifests(f"b-{moment}"), consents=["prune"])
    until_journal_has(place, MOMENTS[moment], deployment_id)
    place.agent.kill()
    place.relay.kill()
    place.agent.start()
    place.relay.start()
    hold_done_once(place, deployment_id, f"b-{moment}")
