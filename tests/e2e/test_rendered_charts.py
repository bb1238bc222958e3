"""The objects of the charts' golden files, judged by a real API server: admission, defaults, and unknown fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.charts.cases import CHARTS, NAMESPACE, cases
from tests.cluster.binaries import module_directory
from tests.cluster.certificates import certificate_definitions
from tests.cluster.errors import ClusterError
from tests.e2e.chart_installation import namespace
from tests.product.target import Target

if TYPE_CHECKING:
    from tests.cluster.fixtures import MakeCluster

OTHERS = ("monitoring.coreos.com/",)
"""Groups whose definitions no server here has; their objects are in the golden files for people to read."""
STRICTLY = ("apply", "--filename=-", "--dry-run=server", "--validate=strict", "--warnings-as-errors")


@pytest.fixture(scope="module")
def server(clusters: MakeCluster) -> Target:
    """Return a control plane of its own, whose namespaces admit only pods of Pod Security `restricted`."""
    target = Target.of_cluster(clusters("rendered"))
    bound = {binding["namespace"] for case in cases() for binding in case.values.get("policy", {}).get("bindings", [])}
    target.apply([namespace(name) for name in sorted({NAMESPACE, *bound})])
    routes = module_directory("traefik", "sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"
    definitions = [routes / "gateway.networking.k8s.io_httproutes.yaml", *certificate_definitions()]
    files = [f"--filename={file}" for file in definitions]
    target.kubectl("apply", "--server-side", *files)
    target.kubectl("wait", "--for=condition=Established", "--timeout=120s", *files)
    for chart in CHARTS:
        # A pod is refused where its ServiceAccount is not there, and a dry-run makes none.
        target.kubectl("--namespace", NAMESPACE, "create", "serviceaccount", chart)
    return target


@pytest.mark.parametrize("chart", CHARTS)
def test_the_api_server_takes_every_object(server: Target, chart: str) -> None:
    """With no warning, such as of Pod Security, a field that is deprecated, or one that it does not know."""
    every = [made for case in cases() if case.chart == chart for made in yaml.safe_load_all(case.golden.read_text())]
    ours = [made for made in every if made and not made["apiVersion"].startswith(OTHERS)]
    answers = server.kubectl(*STRICTLY, stdin=yaml.safe_dump_all(ours)).splitlines()
    assert len(answers) == len(ours)


def test_an_unknown_field_would_be_found(server: Target) -> None:
    """The check above is one: a misspelt field of a pod's template fails it."""
    (minimal,) = [case for case in cases() if (case.chart, case.name) == ("fairlead-agent", "minimal")]
    misspelt = minimal.golden.read_text().replace("readOnlyRootFilesystem", "readOnlyRootFileSystem")
    with pytest.raises(ClusterError, match="readOnlyRootFileSystem"):
        server.kubectl(*STRICTLY, stdin=misspelt)
