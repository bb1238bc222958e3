"""Real nodes run pods as everywhere: across nodes, with logs and exec, and with faults that only a real kubelet has."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cluster import node
from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import MakeCluster
from tests.cluster.images import PROBE_IMAGE, load_image, probe_image_tar
from tests.cluster.network import OUTSIDE_ADDRESS
from tests.polling import wait_until


@pytest.fixture(scope="module")
def pair(clusters: MakeCluster) -> Iterator[Cluster]:
    """Give a cluster of two nodes with a serving pod `pod-N` on each node N."""
    cluster = clusters("pair", nodes=2)
    load_image(cluster, probe_image_tar())
    for each in cluster.nodes:
        placed = json.dumps({"spec": {"nodeName": each.name}})
        serve = ["--", "serve", f"-answer=from {each.name}"]
        cluster.kubectl("run", f"pod-{each.index}", f"--image={PROBE_IMAGE}", f"--overrides={placed}", *serve)
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=120s", "pod/pod-0", "pod/pod-1")
    yield cluster
    cluster.down()


def test_pods_reach_pods_and_services_on_other_nodes(pair: Cluster) -> None:
    """Each node's pod reaches the other's by its address and by a Service, and the API server by its ClusterIP."""
    pair.kubectl("expose", "pod", "pod-1", "--name=far", "--port=80", "--target-port=8080")
    address = pair.kubectl("get", "pod", "pod-0", "--output=jsonpath={.status.podIP}").stdout
    assert "from node-0" in _probe(pair, "pod-1", "get", f"http://{address}:8080/")
    wait_until(lambda: _reaches(pair, "pod-0", "far:80"), "the Service on the other node")
    assert "from node-1" in _probe(pair, "pod-0", "get", "http://far/")
    for pod in ("pod-0", "pod-1"):
        wait_until(partial(_reaches, pair, pod, "kubernetes.default.svc.cluster.local:443"), "the API's Service")


def test_a_further_node_leaves_only_through_the_first_ones_firewall(pair: Cluster) -> None:
    """A pod on the second node reaches the outside address on an allowed port and no other; its node pulls images."""
    registry = pair.serve_registry()
    wait_until(lambda: _reaches(pair, "pod-1", registry.address), "the registry")
    assert not _reaches(pair, "pod-1", f"{OUTSIDE_ADDRESS}:22")
    pulled = registry.push(probe_image_tar(), "fairlead-test/probe", "1")
    placed = json.dumps({"spec": {"nodeName": "node-1"}})
    pair.kubectl("run", "pulled", f"--image={pulled}", f"--overrides={placed}", "--", "serve")
    pair.kubectl("wait", "--for=condition=Ready", "--timeout=120s", "pod/pulled")


def test_logs_and_exec_work_on_every_node(pair: Cluster) -> None:
    """The API server reaches both kubelets, by their certificates."""
    for index in (0, 1):
        assert "serve" in _probe(pair, f"pod-{index}", "help", code=1)
        assert pair.kubectl("logs", f"pod-{index}").returncode == 0


def test_a_missing_image_and_a_failing_program_are_told_apart(pair: Cluster) -> None:
    """By the kubelet's own words."""
    # CrashLoopBackOff is none that can be waited for: a kubelet that looks at the pod only when its back-off is over
    # starts it at once, and the pod shows how the last run ended all the while.
    pair.kubectl("run", "crashing", f"--image={PROBE_IMAGE}", "--", "nonsense")
    pair.kubectl("run", "missing", "--image=fairlead.test/nowhere:1")

    def until(pod: str, path: str, *reasons: str) -> None:
        look = ("get", "pod", pod, f"--output=jsonpath={{.status.containerStatuses[0].{path}.reason}}")
        try:
            wait_until(lambda: pair.kubectl(*look).stdout in reasons, f"{pod} to be {reasons}", 240)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{pair.kubectl('describe', 'pod', pod).stdout}") from None

    until("crashing", "lastState.terminated", "Error")
    until("missing", "state.waiting", "ErrImagePull", "ImagePullBackOff")


def _probe(cluster: Cluster, pod: str, *arguments: str, code: int = 0) -> str:
    """Run the probe in a pod; return what it said."""
    done = cluster.kubectl("exec", pod, "--", "/probe", *arguments, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def _reaches(cluster: Cluster, pod: str, target: str) -> bool:
    """Tell whether a TCP connection from a pod opens."""
    command = ["exec", pod, "--", "/probe", "dial", "-timeout=1s", target]
    return cluster.kubectl(*command, check=False).returncode == 0


def test_more_nodes_than_the_kernel_has_inotify_instances_for_raise_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubelets that die of it say "too many open files", which sends everybody looking elsewhere."""
    limit = tmp_path / "max_user_instances"
    monkeypatch.setattr(node, "_INOTIFY_LIMIT", limit)
    limit.write_text("1000000\n")
    node.ensure_inotify(1)
    assert limit.read_text() == "1000000\n"
    limit.write_text("1\n")
    node.ensure_inotify(1)
    assert int(limit.read_text()) >= 1024
