"""Which kinds are watched, and by which list."""

import pytest

from fairlead_agent.health.targets import Target, is_watched, is_workload
from fairlead_agent.kube.resources import CONFIG_MAPS, NAMESPACES, PODS, REPLICA_SETS, Resource
from fairlead_shared.objects import ObjectRef

BOATS = Resource("boats.example.com", "v1", "Boat", "boats", namespaced=True)
INGRESSES = Resource("networking.k8s.io", "v1", "Ingress", "ingresses", namespaced=True)


@pytest.mark.parametrize(
    ("resource", "watched"), [(CONFIG_MAPS, False), (INGRESSES, False), (PODS, True), (NAMESPACES, True), (BOATS, True)]
)
def test_kinds_that_can_be_unhealthy_are_watched(resource: Resource, *, watched: bool) -> None:
    """Built-in kinds with a rule, and every custom resource."""
    assert is_watched(resource) is watched


def test_workloads_are_explained_by_pods() -> None:
    """Others are not."""
    assert is_workload(REPLICA_SETS)
    assert not is_workload(BOATS)


def test_namespaced_objects_share_a_list_and_cluster_scoped_ones_do_not() -> None:
    """Rights on cluster-scoped objects name them one by one."""
    pod = ObjectRef(api_version="v1", kind="Pod", namespace="shop", name="a")
    namespace = ObjectRef(api_version="v1", kind="Namespace", name="shop")
    assert Target(pod, PODS).source == (PODS, "shop", "")
    assert Target(namespace, NAMESPACES).source == (NAMESPACES, "", "shop")
