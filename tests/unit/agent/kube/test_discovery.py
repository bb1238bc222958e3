"""The table of served kinds, read from an aggregated discovery document."""

from fairlead_agent.kube.discovery import resources_of_discovery
from fairlead_agent.kube.resources import Resource


def test_every_kind_of_every_version_is_found() -> None:
    """Groups hold versions, versions hold resources."""
    deployment = {
        "resource": "deployments",
        "responseKind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "scope": "Namespaced",
    }
    node = {"resource": "nodes", "responseKind": {"kind": "Node"}, "scope": "Cluster"}
    answer = {
        "items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [deployment]}]},
            {"metadata": {}, "versions": [{"version": "v1", "resources": [node]}]},
        ]
    }
    assert list(resources_of_discovery(answer)) == [
        Resource("apps", "v1", "Deployment", "deployments", namespaced=True),
        Resource("", "v1", "Node", "nodes", namespaced=False),
    ]


def test_group_whose_server_is_away_lists_nothing() -> None:
    """A stale aggregated API has versions without resources."""
    stale = {"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1beta1", "freshness": "Stale"}]}
    assert list(resources_of_discovery({"items": [stale]})) == []


def test_resource_without_a_kind_is_left_out() -> None:
    """It could not be named by a manifest."""
    versions = [{"version": "v1", "resources": [{"resource": "odd", "responseKind": None}]}]
    assert list(resources_of_discovery({"items": [{"metadata": {"name": "x"}, "versions": versions}]})) == []
