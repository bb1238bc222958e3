"""A namespace of a test's own, and what tests do in it with the probe image."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import CompletedProcess

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.images import PROBE_IMAGE, load_image, probe_image_tar
from tests.polling import PATIENCE_SECONDS

READY_SECONDS = PATIENCE_SECONDS
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What Pod Security `restricted` asks of a container."""


class Sandbox:
    """A namespace of a test's own in a cluster that has the probe image."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        """Use `namespace` of `cluster`."""
        self.cluster = cluster
        self.namespace = namespace

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> CompletedProcess[str]:  # noqa: A002  (as subprocess calls it)
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *args, input=input, check=check)

    def apply(self, *objects: dict[str, object]) -> None:
        """Apply objects."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(document))

    def pod(self, name: str, claim: str | None = None) -> None:
        """Run a pod that serves on port 8080, and wait until it is ready; a claim is mounted at /kept."""
        template = _serving(name, claim)
        template["metadata"]["name"] = name
        self.apply({"apiVersion": "v1", "kind": "Pod", **template})
        self._await("wait", "--for=condition=Ready", f"pod/{name}")

    def deployment(self, name: str) -> None:
        """Run a Deployment of one such pod behind a Service of that name, and wait until it is rolled out."""
        selector = {"matchLabels": {"app": name}}
        self.apply(
            service(name),
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name},
                "spec": {"selector": selector, "template": _serving(name, None)},
            },
        )
        self._await("rollout", "status", f"deployment/{name}")

    def _await(self, *arguments: str) -> None:
        try:
            self.kubectl(*arguments, f"--timeout={READY_SECONDS:.0f}s")
        except ClusterError as error:
            error.add_note(self.kubectl("describe", "pods").stdout)
            raise

    def probe(self, pod: str, *arguments: str) -> CompletedProcess[str]:
        """Run the probe inside a pod."""
        return self.kubectl("exec", pod, "--", "/probe", *arguments, check=False)

    def reaches(self, pod: str, url: str) -> bool:
        """Tell whether a pod gets an answer from a URL."""
        return self.probe(pod, "get", "-timeout=1s", url).returncode == 0


@contextmanager
def sandbox_in(cluster: Cluster, test: str) -> Iterator[Sandbox]:
    """Give a test, by its name, a namespace under Pod Security `restricted`, gone afterwards."""
    load_image(cluster, probe_image_tar())
    name = test.replace("_", "-")[:60].strip("-")
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield Sandbox(cluster, name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def service(name: str) -> dict[str, object]:
    """Describe a Service, on port 80, of the pods that serve under a name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
    }


def _serving(name: str, claim: str | None) -> dict[str, dict[str, object]]:
    container = {
        "name": "probe",
        "image": PROBE_IMAGE,
        "args": ["serve", f"-answer={name}"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "kept", "mountPath": "/kept"}] if claim else [],
    }
    volumes = [{"name": "kept", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    return {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1},
    }
