"""The charts, installed by helm on real nodes: a relay in one cluster, an agent in another that none can dial into."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.errors import CommandFailed
from tests.cluster.registry import Registry, session_registry
from tests.e2e.chart_installation import NAMESPACE, RELEASE_NAMESPACE, ChartInstallation, install_charts
from tests.polling import wait_until

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

READY_AFTER_SECONDS = 12
"""How long the pod of a slow deployment is not ready: time enough to take a pod away and see its successor connect."""

LIMIT_BYTES = 128 * 2**20
"""The chart's limit: the kernel kills an agent that needs more."""
WORKING_SET_BYTES = 96 * 2**20
"""Three quarters of it: what the agent may have in use afterwards."""
OBJECTS, OBJECT_BYTES = 500, 2000


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """Serve images to both clusters."""
    with session_registry() as served:
        yield served


@pytest.fixture(scope="module")
def installed(
    relay_cluster: Cluster, cluster: Cluster, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> ChartInstallation:
    """Install both charts of the version before, once for this file; its tests run in order."""
    return install_charts(relay_cluster, cluster, registry, tmp_path_factory.mktemp("charts"), previous=True)


def begin_slow(installed: ChartInstallation, answer: str) -> str:
    """Begin a deployment that is not done for a while; returns its id once it waits for its pod."""
    slow = installed.server("slow", answer=answer, ready_after_seconds=READY_AFTER_SECONDS)
    deployment = installed.begin(installed.write("slow.json", installed.server("web"), slow))
    installed.await_event(deployment, "step/wait/started")
    return deployment


def hold_done_once(installed: ChartInstallation, deployment: str) -> dict[str, int]:
    """Hold that a deployment succeeds and that its story has every step, each once; returns its counts."""
    ended = installed.await_state(deployment, "succeeded")
    told = Counter(event["key"] for event in installed.events(deployment))
    assert {key: count for key, count in told.items() if count > 1} == {}
    for step in ("verify", "fetch", "preflight", "apply", "wait"):
        assert {f"step/{step}/started", f"step/{step}/finished"} <= set(told)
    counts: dict[str, int] = ended["counts"]
    return counts


def test_both_are_upgraded_from_the_version_before_while_deployments_run(installed: ChartInstallation) -> None:
    """The relay first, then the agent, each by helm: nothing is lost or done twice, and no token is needed."""
    before = installed.identity()
    first = begin_slow(installed, "first")
    installed.release("relay")
    assert hold_done_once(installed, first) == {"created": 2}
    second = begin_slow(installed, "second")
    installed.agent.kubectl("--namespace", RELEASE_NAMESPACE, "delete", "secret", "enrolment")
    installed.values["agent"]["metrics"] = {"enabled": True}
    installed.release("agent")
    assert hold_done_once(installed, second) == {"changed": 1, "unchanged": 1}
    assert installed.identity() == before


def test_an_agent_is_rolled_back_while_a_deployment_runs(installed: ChartInstallation) -> None:
    """The agent of the version before serves today's relay again, with the same identity, and today's comes back."""
    before = installed.identity()
    deployment = begin_slow(installed, "third")
    rollback = ("rollback", "fairlead-agent", "--namespace", RELEASE_NAMESPACE, "--wait", "--timeout=120s")
    installed.agent.helm(*rollback, "1")
    assert hold_done_once(installed, deployment) == {"changed": 1, "unchanged": 1}
    assert installed.identity() == before
    installed.agent.helm(*rollback, "2")
    assert installed.identity() == before
    # As the tests after this one expect it.
    installed.fairlead(
        "deploy", "-f", installed.write("shop.json", installed.server("web")), "--env", "shop/staging", "-w"
    )


def test_a_relay_that_is_too_old_for_its_store_leaves_it_alone(installed: ChartInstallation) -> None:
    """Rolled back too far, it does not start and says why; today's comes back, as in operate.md, and lost nothing."""
    deployment = begin_slow(installed, "fourth")
    rollback = ("rollback", "fairlead-relay", "--namespace", RELEASE_NAMESPACE)
    installed.relay.helm(*rollback, "1")

    def refuses() -> bool:
        with suppress(CommandFailed):  # its container may not be there yet, or not any more
            log = installed.relay.kubectl("--namespace", RELEASE_NAMESPACE, "logs", "fairlead-relay-0")
            return "is of a newer relay" in log
        return False

    wait_until(refuses, "the relay of the version before to refuse the store")
    installed.relay.helm(*rollback, "2")
    installed.relay.kubectl("--namespace", RELEASE_NAMESPACE, "delete", "pod", "fairlead-relay-0")
    status = ("rollout", "status", "statefulset/fairlead-relay", "--timeout=120s")
    installed.relay.kubectl("--namespace", RELEASE_NAMESPACE, *status)
    assert hold_done_once(installed, deployment) == {"created": 1, "unchanged": 1}


def test_a_deployment_through_both_charts_reaches_healthy(installed: ChartInstallation) -> None:
    """From the command to a pod that answers, with the images and rights that people get."""
    file = installed.write("shop.json", installed.server("web"))
    installed.fairlead("deploy", "-f", file, "--env", "shop/staging", "--watch")
    assert installed.live("deployment", "web")["status"]["readyReplicas"] == 1
    assert "Healthy" in installed.fairlead("status", "shop/staging")


def test_the_agent_counts_for_prometheus(installed: ChartInstallation) -> None:
    """The chart's Service leads to what the running agent counts."""
    service = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/services/fairlead-agent-metrics:metrics/proxy/metrics"
    text = installed.agent.kubectl("get", "--raw", service)
    counted = {sample.name: sample.value for kind in text_string_to_metric_families(text) for sample in kind.samples}
    assert (counted["fairlead_agent_connected"], counted["fairlead_agent_leading"]) == (1, 1)
    assert counted["fairlead_agent_certificate_expiry_timestamp_seconds"] > time.time()
    assert counted["fairlead_agent_kube_request_seconds_count"] > 0


def test_helms_own_test_proves_way_and_rights(installed: ChartInstallation) -> None:
    """`helm test` is green under Pod Security `restricted`; without a Role it fails, and its pod names the rule."""
    ask = ("test", "fairlead-agent", "--namespace", RELEASE_NAMESPACE, "--timeout=120s")
    installed.agent.helm(*ask)
    role = f"fairlead-agent.{RELEASE_NAMESPACE}"
    rules = installed.live("role", role)
    installed.agent.kubectl("--namespace", NAMESPACE, "delete", "role", role)
    with pytest.raises(CommandFailed, match="fairlead-agent-test"):
        installed.agent.helm(*ask)
    said = installed.agent.kubectl("--namespace", RELEASE_NAMESPACE, "logs", "fairlead-agent-test")
    assert f"Role in namespace {NAMESPACE}" in said
    assert "deployments" in said
    metadata = {name: rules["metadata"][name] for name in ("name", "namespace", "labels", "annotations")}
    installed.agent.apply([rules | {"metadata": metadata}])
    installed.agent.helm(*ask)


def test_operator_and_relay_name_the_same_sealing_key(installed: ChartInstallation) -> None:
    """The command of the chart's notes prints, inside the cluster, the fingerprint that clients pin."""
    keys = ("exec", "deployment/fairlead-agent", "--", "fairlead-agent", "keys")
    printed = installed.agent.kubectl("--namespace", RELEASE_NAMESPACE, *keys)
    assert installed.identity()[1] in printed


def test_the_agent_may_do_nothing_beyond_its_roles(installed: ChartInstallation) -> None:
    """Nothing cluster-wide, no Secrets of others, and no rights to give itself more."""
    account = f"--as=system:serviceaccount:{RELEASE_NAMESPACE}:fairlead-agent"
    allowed = installed.agent.kubectl("auth", "can-i", "create", "deployments.apps", "--namespace", NAMESPACE, account)
    assert allowed.strip() == "yes"
    for verb, resource, namespace in (
        ("list", "namespaces", NAMESPACE),
        ("list", "secrets", RELEASE_NAMESPACE),
        ("get", "secrets/enrolment", RELEASE_NAMESPACE),
        ("create", "deployments.apps", RELEASE_NAMESPACE),
        ("create", "deployments.apps", "default"),
        ("create", "rolebindings.rbac.authorization.k8s.io", NAMESPACE),
        ("create", "pods", NAMESPACE),
        ("create", "pods/exec", NAMESPACE),
    ):
        argv = [*installed.agent.prefix, str(installed.agent.kubectl_program), *installed.agent.kubectl_options]
        argv += ["auth", "can-i", verb, resource, "--namespace", namespace, account]
        answer = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert answer.stdout.strip() == "no", f"{verb} {resource} in {namespace}: {answer.stdout}{answer.stderr}"


def test_an_upgrade_keeps_the_identity(installed: ChartInstallation) -> None:
    """New values bring a new pod of the same agent, without a token."""
    before, pod = installed.identity(), installed.agent_pod()["metadata"]["name"]
    installed.agent.install("fairlead-agent", "fairlead-agent", RELEASE_NAMESPACE, {"logFormat": "console"}, reuse=True)
    assert installed.agent_pod()["metadata"]["name"] != pod
    assert installed.identity() == before
    installed.fairlead("deploy", "-f", "shop.json", "--env", "shop/staging", "--watch")


def test_cluster_scoped_objects_need_a_rule_and_a_right(installed: ChartInstallation) -> None:
    """Without the operator's rule the agent refuses, without the right it says which; with both it is done, by name."""
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "charts-extra"}}
    deploy = (
        "deploy",
        "-f",
        installed.write("extra.json", installed.server("web"), made),
        "--env",
        "shop/staging",
        "-w",
    )
    assert "charts-extra" in installed.fairlead(*deploy, exits=5)
    rule = {"group": "", "kind": "Namespace", "names": ["charts-extra"]}
    upgrade = ("fairlead-agent", "fairlead-agent", RELEASE_NAMESPACE)
    installed.agent.install(*upgrade, {"policy": {"clusterScoped": [rule]}}, reuse=True)
    assert 'resources: ["namespaces"]' in installed.fairlead(*deploy, exits=5)
    right = {"apiGroup": "", "resource": "namespaces", "names": ["charts-extra"]}
    installed.agent.install(*upgrade, {"clusterRights": [right]}, reuse=True)
    installed.fairlead(*deploy)
    installed.fairlead("deploy", "-f", "shop.json", "--env", "shop/staging", "-w")


def test_a_deployment_outlives_the_agents_pod(installed: ChartInstallation) -> None:
    """Its successor continues from what the cluster keeps: nothing is lost, nothing is done twice."""
    deployment = begin_slow(installed, "ok")
    made = installed.live("deployment", "slow")
    pod = installed.agent_pod()["metadata"]["name"]
    installed.agent.kubectl("--namespace", RELEASE_NAMESPACE, "delete", "pod", pod, "--force", "--grace-period=0")
    assert hold_done_once(installed, deployment) == {"created": 1, "unchanged": 1}
    after = installed.live("deployment", "slow")
    assert (after["metadata"]["uid"], after["metadata"]["generation"]) == (made["metadata"]["uid"], 1)
    keys = [event["key"] for event in installed.events(deployment)]
    assert f"object/Deployment {NAMESPACE}/slow/created" in keys


def test_a_deployment_outlives_the_relays_pod(installed: ChartInstallation) -> None:
    """The agent goes on alone and reports when the relay is back, on the same volume."""
    deployment = begin_slow(installed, "changed")
    installed.relay.kubectl(
        "--namespace", RELEASE_NAMESPACE, "delete", "pod", "fairlead-relay-0", "--force", "--grace-period=0"
    )
    installed.relay.kubectl(
        "--namespace", RELEASE_NAMESPACE, "rollout", "status", "statefulset/fairlead-relay", "--timeout=120s"
    )
    assert hold_done_once(installed, deployment) == {"changed": 1, "unchanged": 1}


def test_a_deployment_outlives_a_restart_of_the_node(installed: ChartInstallation, cluster: Cluster) -> None:
    """Kubelet, runtime and every container are killed and started again: the agent's new container ends it, once."""
    deployment = begin_slow(installed, "after a restart")
    made, pod = installed.live("deployment", "slow"), installed.agent_pod()["metadata"]["name"]
    (node,) = cluster.nodes
    node.crash()
    node.boot()
    assert hold_done_once(installed, deployment) == {"changed": 1, "unchanged": 1}
    after = installed.live("deployment", "slow")
    assert after["metadata"]["generation"] == made["metadata"]["generation"]
    assert installed.agent_pod()["metadata"]["name"] == pod, "the same pod came back"


def test_a_second_replica_takes_over(installed: ChartInstallation) -> None:
    """Of two pods one leads; when its pod is gone, the other ends the deployment that it had begun."""
    upgrade = ("fairlead-agent", "fairlead-agent", RELEASE_NAMESPACE)
    installed.agent.install(*upgrade, {"replicas": 2}, reuse=True)

    def leader() -> str:
        # A replica is named after its pod, with a number for each life.
        lease = installed.live("lease", "fairlead-agent", RELEASE_NAMESPACE)
        return str(lease["spec"].get("holderIdentity", ""))

    pods = {pod["metadata"]["name"] for pod in installed.agent_pods()}
    leading = wait_until(lambda: next((pod for pod in pods if leader().startswith(pod)), ""), "one of them to lead")
    deployment = begin_slow(installed, "changed again")
    installed.agent.kubectl("--namespace", RELEASE_NAMESPACE, "delete", "pod", leading, "--force", "--grace-period=0")
    assert hold_done_once(installed, deployment) == {"changed": 1, "unchanged": 1}
    (other,) = pods - {leading}
    assert leader().startswith(other)
    installed.agent.install(*upgrade, {"replicas": 1}, reuse=True)


def test_five_hundred_objects_fit_into_the_agents_limit(installed: ChartInstallation, cluster: Cluster) -> None:
    """After all this the agent deploys 500 more objects and prunes them, and is not killed for its memory."""

    def ready() -> dict[str, Any] | None:
        # It is not while it finds the relay again, whose pod a test before this one deleted.
        found = installed.agent_pod()
        return found if found["status"]["containerStatuses"][0]["ready"] else None

    pod = wait_until(ready, "the agent to be ready")
    assert pod is not None
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == f"{LIMIT_BYTES >> 20}Mi"
    content = {"text": "x" * OBJECT_BYTES}
    many = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"many-{number:03d}"}, "data": content}
        for number in range(OBJECTS)
    ]
    for manifests, consent in ((many, []), ([], ["--prune-many"])):
        file = installed.write("many.json", installed.server("web"), *manifests)
        installed.fairlead("deploy", "-f", file, "--env", "shop/staging", "--watch", *consent)
    after = installed.agent_pod()
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    (node,) = cluster.nodes
    peak = node.memory_peak_bytes(after["metadata"]["uid"], after["status"]["containerStatuses"][0]["containerID"])
    print(f"the agent took at most {peak / 2**20:.0f} MiB")
    summary = f"/api/v1/nodes/{pod['spec']['nodeName']}/proxy/stats/summary"
    measured = json.loads(installed.agent.kubectl("get", "--raw", summary))["pods"]
    (own,) = [found for found in measured if found["podRef"]["name"] == pod["metadata"]["name"]]
    assert own["containers"][0]["memory"]["workingSetBytes"] < WORKING_SET_BYTES


def test_uninstalling_leaves_the_workloads(installed: ChartInstallation) -> None:
    """The agent and its rights go; what it deployed serves on, and its identity waits for the next installation."""
    identity = installed.live("secret", "fairlead-agent-identity", RELEASE_NAMESPACE)["metadata"]["uid"]
    installed.agent.helm("uninstall", "fairlead-agent", "--namespace", RELEASE_NAMESPACE, "--wait")
    assert installed.live("deployment", "web")["status"]["readyReplicas"] == 1
    assert installed.live("secret", "fairlead-agent-identity", RELEASE_NAMESPACE)["metadata"]["uid"] == identity
    roles = installed.agent.kubectl("--namespace", NAMESPACE, "get", "roles,rolebindings", "--output=json")
    assert json.loads(roles)["items"] == []
    wait_until(
        lambda: json.loads(installed.fairlead("cluster", "show", "blue", "-o", "json"))["state"] == "offline",
        "the relay to see the agent go",
    )
