"""DNS, volumes, network policies and fake nodes do what they stand for, on a real node."""

import json
from collections.abc import Iterator
from functools import partial
from subprocess import CompletedProcess

import pytest

from tests import polling
from tests.cluster.addons import add_fake_nodes
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.fixtures import MakeCluster
from tests.cluster.images import PROBE_IMAGE, load_image, probe_image_tar

READY_SECONDS = 60.0
EFFECT_SECONDS = 30.0
"""A new policy, address or deletion shows within a second; the rest is for a machine that does other things."""
wait_until = partial(polling.wait_until, deadline_seconds=EFFECT_SECONDS)
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


class Sandbox:
    """A namespace of a test's own in a cluster that has the probe image."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        """Use `namespace` of `cluster`."""
        self.cluster = cluster
        self.namespace = namespace

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> CompletedProcess[str]:  # noqa: A002
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *args, input=input, check=check)

    def apply(self, *objects: dict[str, object]) -> None:
        """Apply objects."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(document))

    def pod(self, name: str, claim: str | None = None) -> None:
        """Run a pod that serves on port 8080, and wait until it is ready; a claim is mounted at /kept."""
        volumes = [{"name": "kept", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
        container = {
            "name": "probe",
            "image": PROBE_IMAGE,
            "args": ["serve", f"-answer={name}"],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
            "securityContext": RESTRICTED,
            "volumeMounts": [{"name": "kept", "mountPath": "/kept"}] if claim else [],
        }
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": name}},
                "spec": {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1},
            }
        )
        try:
            self.kubectl("wait", "--for=condition=Ready", f"--timeout={READY_SECONDS:.0f}s", f"pod/{name}")
        except ClusterError as error:
            error.add_note(self.kubectl("describe", "pod", name).stdout)
            raise

    def probe(self, pod: str, *arguments: str) -> CompletedProcess[str]:
        """Run the probe inside a pod."""
        return self.kubectl("exec", pod, "--", "/probe", *arguments, check=False)

    def reaches(self, pod: str, url: str) -> bool:
        """Tell whether a pod gets an answer from a URL."""
        return self.probe(pod, "get", "-timeout=1s", url).returncode == 0


@pytest.fixture
def sandbox(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Give a test a namespace of its own under Pod Security `restricted`, gone afterwards."""
    load_image(cluster, probe_image_tar())
    name = request.node.name.replace("_", "-")[:60].strip("-")
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield Sandbox(cluster, name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def _service(name: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
    }


def _policy(name: str, spec: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}


def _labels(app: str) -> dict[str, object]:
    return {"matchLabels": {"app": app}}


def test_pod_resolves_a_service_and_nothing_outside(sandbox: Sandbox) -> None:
    """A short name finds the Service's address; a name of the world is answered at once, with no."""
    sandbox.apply(_service("server"))
    for name in ("server", "client"):
        sandbox.pod(name)
    address = sandbox.kubectl("get", "service", "server", "--output=jsonpath={.spec.clusterIP}").stdout
    found = sandbox.probe("client", "lookup", "server")
    assert found.stdout.split() == [address], found.stderr
    assert sandbox.reaches("client", f"http://server.{sandbox.namespace}.svc.cluster.local/")
    refused = sandbox.probe("client", "lookup", "-timeout=2s", "example.com")
    assert refused.returncode != 0
    assert "no such host" in refused.stderr


def test_claim_binds_and_its_files_outlive_the_pod(sandbox: Sandbox) -> None:
    """The default class provides a volume once a pod needs it; a second pod finds what the first one wrote."""
    sandbox.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "kept"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
        }
    )
    sandbox.pod("writer", claim="kept")
    assert sandbox.probe("writer", "write", "/kept/note", "still here").returncode == 0
    volume = sandbox.kubectl("get", "pvc", "kept", "--output=jsonpath={.spec.volumeName}").stdout
    sandbox.kubectl("delete", "pod", "writer")
    sandbox.pod("reader", claim="kept")
    assert sandbox.probe("reader", "read", "/kept/note").stdout == "still here"
    sandbox.kubectl("delete", "pod", "reader")
    sandbox.kubectl("delete", "pvc", "kept")
    directory = sandbox.cluster.directory / "volumes" / volume
    wait_until(lambda: not directory.exists(), f"the end of {directory}")
    wait_until(lambda: sandbox.kubectl("get", "pv", volume, check=False).returncode != 0, f"the end of {volume}")


def test_ingress_policy_denies_all_but_whom_it_names(sandbox: Sandbox) -> None:
    """An isolated pod is reached, through its Service, by the pod its policy names, and by nobody else."""
    sandbox.apply(_service("server"))
    for name in ("server", "friend", "stranger"):
        sandbox.pod(name)
    url = "http://server/"
    for name in ("friend", "stranger"):
        wait_until(partial(sandbox.reaches, name, url), f"{name} reaching the server without a policy")
    sandbox.apply(
        _policy(
            "only-friends",
            {
                "podSelector": _labels("server"),
                "ingress": [{"from": [{"podSelector": _labels("friend")}], "ports": [{"port": "http"}]}],
            },
        )
    )
    wait_until(lambda: not sandbox.reaches("stranger", url), "the stranger being shut out")
    assert sandbox.reaches("friend", url)
    # The kubelet's probes come from the node and are no business of the policy.
    assert (
        sandbox.kubectl("get", "pod", "server", "--output=jsonpath={.status.containerStatuses[0].ready}").stdout
        == "true"
    )
    sandbox.kubectl("delete", "networkpolicy", "only-friends")
    wait_until(lambda: sandbox.reaches("stranger", url), "the stranger being let in again")


def test_egress_policy_leaves_only_what_it_names(sandbox: Sandbox) -> None:
    """A pod under an egress policy reaches DNS and one server, not another one and not the API server."""
    for name in ("allowed", "forbidden"):
        sandbox.apply(_service(name))
    for name in ("allowed", "forbidden", "client"):
        sandbox.pod(name)
    api = "kubernetes.default.svc:443"
    wait_until(lambda: sandbox.probe("client", "dial", api).returncode == 0, "the client reaching the API server")
    sandbox.apply(
        _policy(
            "narrow",
            {
                "podSelector": _labels("client"),
                "policyTypes": ["Egress"],
                "egress": [
                    {"to": [{"podSelector": _labels("allowed")}], "ports": [{"port": 8080}]},
                    {"to": [{"namespaceSelector": {}}], "ports": [{"port": 53, "protocol": "UDP"}]},
                ],
            },
        )
    )
    wait_until(lambda: not sandbox.reaches("client", "http://forbidden/"), "the forbidden server being out of reach")
    assert sandbox.reaches("client", "http://allowed/")
    assert sandbox.probe("client", "dial", "-timeout=1s", api).returncode != 0
    assert sandbox.probe("client", "lookup", "forbidden").returncode == 0
    assert sandbox.reaches("allowed", "http://forbidden/")


def test_fake_nodes_run_two_hundred_pods(clusters: MakeCluster) -> None:
    """A control plane without a kubelet rolls out a Deployment on nodes that only pretend."""
    plane = clusters("fake")
    add_fake_nodes(plane, 3)
    plane.kubectl("create", "namespace", "many")
    plane.kubectl("--namespace", "many", "create", "deployment", "many", "--image=none/none:1", "--replicas=200")
    plane.kubectl("--namespace", "many", "rollout", "status", "deployment/many", "--timeout=60s")
    pods = json.loads(plane.kubectl("--namespace", "many", "get", "pods", "--output=json").stdout)["items"]
    assert len(pods) == 200
    assert {pod["spec"]["nodeName"] for pod in pods} == {"fake-0", "fake-1", "fake-2"}
    plane.down()
