"""What a manifest names; tests/unit/agent/apply/test_graph.py covers what follows from it."""

from fairlead_agent.apply.references import DEPENDS_ON, bound_service_accounts, dependencies, named_by

CRON_JOB = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "tidy", "namespace": "shop"},
    "spec": {"jobTemplate": {"spec": {"template": {"spec": {"serviceAccount": "tidy", "priorityClassName": "low"}}}}},
}


def test_pod_template_of_a_cron_job_lies_deeper() -> None:
    """Each kind keeps its pod spec in its own place."""
    assert set(named_by(CRON_JOB)) == {
        ("", "ServiceAccount", "shop", "tidy"),
        ("scheduling.k8s.io", "PriorityClass", "", "low"),
    }


def test_cluster_role_of_a_binding_has_no_namespace() -> None:
    """A RoleBinding may name a ClusterRole."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "reads", "namespace": "shop"},
        "roleRef": {"kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "eve"}, {"kind": "ServiceAccount", "name": "web", "namespace": "front"}],
    }
    assert list(bound_service_accounts(binding)) == [("", "ServiceAccount", "front", "web")]
    assert ("rbac.authorization.k8s.io", "ClusterRole", "", "view") in set(named_by(binding))


def test_an_annotation_names_objects_as_kpt_writes_them() -> None:
    """With or without namespace, of whatever group; what is written otherwise comes as it stands."""
    on = "/namespaces/shop/Service/db, apps/namespaces/shop/Deployment/db,example.com/Fleet/one,nonsense,"
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "annotations": {DEPENDS_ON: on}}}
    assert list(dependencies(manifest)) == [
        ("", "Service", "shop", "db"),
        ("apps", "Deployment", "shop", "db"),
        ("example.com", "Fleet", "", "one"),
        "nonsense",
        "",
    ]
    annotations: object
    for annotations in (None, [], {}, {DEPENDS_ON: ""}):
        assert list(dependencies(manifest | {"metadata": {"name": "a", "annotations": annotations}})) == []


def test_kind_without_pods_names_nothing() -> None:
    """A ConfigMap needs nobody."""
    assert list(named_by({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})) == []
    assert list(bound_service_accounts(CRON_JOB)) == []
