"""Drift on a real API server: who changed what, within 2 s; put right, and no war about it; ignored where told to."""

from pathlib import Path
from typing import Any

from fairlead_agent.policy import Policy
from fairlead_shared.progress import Outcome
from tests.cluster.cluster import Cluster
from tests.e2e.engine_world import World, config_map, deployment, world


def ignoring(place: World, *pointers: str, **more: Any) -> Policy:  # noqa: ANN401  (YAML)
    """Return a policy that leaves fields of the Deployment `web` to others."""
    rule = {"group": "apps", "kind": "Deployment", "namespace": place.namespace, "names": ["web"]}
    return Policy.model_validate({"drift": {"ignore": [{**rule, "pointers": pointers}], **more}})


async def test_an_ignored_field_is_somebody_elses_once_they_took_it(control_plane: Cluster, tmp_path: Path) -> None:
    """The first deployment sets it, later ones leave it as it became, plan nothing for it, and delete nothing."""
    async with world(control_plane, tmp_path) as place:
        place.policy = ignoring(place, "/spec/replicas")
        await place.deploy([deployment("web", replicas=0)])
        _, story = await place.deploy([deployment("web", replicas=1)], wait_seconds=1)
        assert (await place.live("deployment", "web"))["spec"]["replicas"] == 1, "nobody else had it"
        await place.kubectl("scale", "deployment", "web", "-n", place.namespace, "--replicas=0")
        _, story = await place.plan([deployment("web", replicas=2)])
        assert story.fields() == {}
        result, story = await place.deploy([deployment("web", replicas=2)])
        assert result.outcome is Outcome.SUCCEEDED
        assert (await place.live("deployment", "web"))["spec"]["replicas"] == 0
        _, story = await place.deploy([deployment("web", replicas=3), config_map("marker")])
        assert story.actions()[f"Deployment {place.namespace}/web"] == "unchanged"
        await place.kubectl("delete", "deployment", "web", "-n", place.namespace)
        await place.deploy([deployment("web", replicas=0), config_map("marker")])
        assert (await place.live("deployment", "web"))["spec"]["replicas"] == 0, "made anew as the bundle says"
