"""What helm makes of the charts, compared with the golden files."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.charts.cases import CHARTS, NAMESPACE, Case, cases, stray_files
from tests.cluster.binaries import binary

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build helm first, in a fixture, which may take as long as it takes."""
    binary("helm")


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.chart}/{case.name}")
def test_a_chart_renders_as_its_golden_file_says(case: Case) -> None:
    """Each difference is one that somebody looked at: `make charts` writes the files again."""
    assert case.render() == case.golden.read_text(), "run `make charts`, and look at what changed"


def test_no_golden_file_is_left_over() -> None:
    """And there are enough values for each chart to show each of its objects."""
    assert stray_files() == []
    counts = Counter(case.chart for case in cases())
    assert all(counts[chart] >= 12 for chart in CHARTS), counts


def pod_specs(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the spec of each pod that there is or will be."""
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield manifest["spec"]
        elif "template" in manifest.get("spec", {}):
            yield manifest["spec"]["template"]["spec"]


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.chart}/{case.name}")
def test_every_pod_is_within_the_restricted_level(case: Case) -> None:
    """Whatever the values: the rules of Pod Security `restricted`, and a read-only root file system and limits."""
    found = list(pod_specs(case.manifests()))
    assert found
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        kinds = {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "secret", "projected", "emptyDir", "persistentVolumeClaim"}
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert "hostPort" not in str(container.get("ports"))


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.chart}/{case.name}")
def test_every_object_is_where_helm_puts_it_and_no_two_are_one(case: Case) -> None:
    """Namespaced objects name their namespace, so that `helm template | kubectl apply` does the same as helm."""
    manifests = case.manifests()
    keys = Counter(
        (made["kind"], made["metadata"].get("namespace", ""), made["metadata"]["name"]) for made in manifests
    )
    assert {key for key, count in keys.items() if count > 1} == set()
    bound = {binding["namespace"] for binding in case.values.get("policy", {}).get("bindings", [])}
    for made in manifests:
        place = made["metadata"].get("namespace")
        if made["kind"] in {"ClusterRole", "ClusterRoleBinding"}:
            assert place is None
        else:
            assert place == NAMESPACE or (made["kind"] in {"Role", "RoleBinding"} and place in bound), made["metadata"]
