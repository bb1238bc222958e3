"""Clusters come up, go down without a trace, and are cleared by their record when the tool is killed."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError, NameTaken, UnknownCluster
from tests.cluster.fixtures import MakeCluster
from tests.cluster.gateway import ensure_gateway
from tests.cluster.images import PROBE_IMAGE, load_image, probe_image_tar
from tests.cluster.metrics import ensure_metrics
from tests.cluster.record import STATE, Record, reap_dead, records
from tests.cluster_tests.traces import Traces
from tests.polling import wait_until

TOOL = [sys.executable, "-m", "tests.cluster"]
MACHINE_SETTINGS = (
    "net/ipv4/ip_forward",
    "net/netfilter/nf_conntrack_max",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
)
PATHS_OF_NODES = (
    "/run/containerd",
    "/var/lib/containerd",
    "/var/lib/kubelet/device-plugins/kubelet.sock",
    "/usr/libexec/kubernetes",
    "/var/log/pods",
    "/var/log/containers",
)


def machine() -> dict[str, str]:
    """Note what no cluster may change on the host, whatever else runs beside this test."""
    noted = {name: (Path("/proc/sys") / name).read_text() for name in MACHINE_SETTINGS}
    noted |= {path: str(Path(path).exists()) for path in PATHS_OF_NODES}
    noted["firewall"] = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    noted["routes"] = "\n".join(line for line in routes.splitlines() if "flc" not in line)
    return noted


@pytest.fixture
def name() -> Iterator[str]:
    """Give a fresh cluster name, cleared afterwards whatever the test did."""
    fresh = f"life-{os.getpid()}-{secrets.token_hex(3)}"
    yield fresh
    if (STATE / fresh).exists():
        Record.claim(fresh).clear()


def test_a_cluster_with_a_node_leaves_nothing(name: str) -> None:
    """After `down` there is no process, mount, namespace, link, control group or setting left, though a pod ran."""
    before = machine()
    cluster = Cluster.up(name, nodes=2)
    try:
        load_image(cluster, probe_image_tar())
        cluster.kubectl("run", "served", f"--image={PROBE_IMAGE}", "--", "serve")
        cluster.kubectl("wait", "--for=condition=Ready", "--timeout=120s", "pod/served")
        traces = Traces.of(name)
        assert len(traces.namespaces) == 2
        assert len(traces.left()) > 10
    finally:
        cluster.down()
    traces.expect_none()
    assert not (Path("/sys/class/net") / traces.link).exists() or traces.link in _links_in_use()
    assert machine() == before
    cluster.down()


@pytest.mark.parametrize(
    ("logged", "options"),
    [
        ("etcd", []),
        ("kube-apiserver", []),
        ("node-0-kubelet", []),
        pytest.param(
            "metrics-server",
            ["--with", "gateway", "--with", "metrics"],
            marks=pytest.mark.builds("metrics-server", "traefik"),
        ),
    ],
)
def test_a_killed_tool_leaves_nothing(name: str, logged: str, options: list[str]) -> None:
    """SIGKILL in the middle of `up`: the next `down` clears what was begun, by the record."""
    tool = subprocess.Popen(
        [*TOOL, "up", "--name", name, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until((STATE / name / "log" / f"{logged}.log").exists, f"{logged} to start", 300)
    tool.send_signal(signal.SIGKILL)
    tool.wait()
    traces = Traces.of(name)
    assert traces.left()
    # Not always at once: a child that the tool was just starting holds the record's lock until it is another program,
    # and whoever else starts a cluster on this machine at this moment may be the one who clears.
    wait_until(lambda: name in reap_dead() or not (STATE / name).exists(), f"{name} to be cleared")
    traces.expect_none()


def test_ctrl_c_ends_the_clusters_of_a_test_session(tmp_path: Path) -> None:
    """An interrupted pytest takes its clusters down before it ends."""
    reached = tmp_path / "reached"
    (tmp_path / "test_waits.py").write_text(
        "import pathlib, time\n"
        "def test_waits(control_plane):\n"
        f"    pathlib.Path({str(reached)!r}).write_text(control_plane.name)\n"
        "    time.sleep(300)\n"
    )
    argv = [sys.executable, "-m", "pytest", "-p", "tests.cluster.fixtures", "-c", "/dev/null", str(tmp_path)]
    session = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: reached.exists() and reached.read_text(), "the session's cluster", 200)
    traces = Traces.of(reached.read_text())
    assert traces.left()
    session.send_signal(signal.SIGINT)
    said, _ = session.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    traces.expect_none()


def test_the_command_line_brings_a_cluster_up_and_down(name: str) -> None:
    """`up` keeps it, `status` tells, `exec` goes in, `kubeconfig` prints, `down` ends it; a second `up` is refused."""

    def tool(*arguments: str, code: int = 0) -> str:
        done = subprocess.run([*TOOL, *arguments], capture_output=True, text=True, check=False, timeout=400)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    assert f"exec --name {name}" in tool("up", "--name", name, "--nodes", "0")
    assert "is already up" in tool("up", "--name", name, "--nodes", "0", code=1)
    (described,) = (entry for entry in json.loads(tool("status", "-o", "json")) if entry["name"] == name)
    assert described["kept"]
    assert all(process["running"] for process in described["processes"])
    assert len(described["processes"]) == 4
    assert "namespace/default" in tool("exec", "--name", name, "--", "kubectl", "get", "namespaces", "--output=name")
    assert json.loads(tool("kubeconfig", "--name", name))["kind"] == "Config"
    traces = Traces.of(name)
    tool("down", "--name", name)
    traces.expect_none()
    assert f"no cluster {name} is up" in tool("down", "--name", name, code=1)
    tool("up", "--nodes", "many", code=2)


def test_a_living_cluster_is_left_alone(control_plane: Cluster) -> None:
    """A cluster whose owner lives survives the clearing, and its name cannot be taken or claimed."""
    assert control_plane.name not in reap_dead()
    with pytest.raises(NameTaken):
        Cluster.up(control_plane.name, nodes=0)
    with pytest.raises(NameTaken):
        Record.claim(control_plane.name)
    assert "default" in control_plane.kubectl("get", "namespaces").stdout


@pytest.mark.parametrize("ensure", [ensure_metrics, ensure_gateway])
def test_an_add_on_without_a_node_is_refused(control_plane: Cluster, ensure: Callable[[Cluster], object]) -> None:
    """Nothing is built or started where there would be nothing to measure or to route to; the error says so."""
    with pytest.raises(ClusterError, match="has no real node, so there is nothing to"):
        ensure(control_plane)


def test_names_are_checked() -> None:
    """A name that would escape its directory or overflow a socket's path is refused; an unknown one is named."""
    for wrong in ("../up", "A", "x" * 33, "", "-a"):
        with pytest.raises(ClusterError, match="is no cluster name"):
            Cluster.up(wrong, nodes=0)
    with pytest.raises(UnknownCluster, match="no cluster nobody is up"):
        Cluster.open("nobody")


def test_two_clusters_stand_side_by_side(control_plane: Cluster, clusters: MakeCluster) -> None:
    """Two clusters share no object and no address, and neither reaches the other's API server."""
    other = clusters("other")
    control_plane.kubectl("create", "namespace", "only-here")
    assert "only-here" not in other.kubectl("get", "namespaces").stdout
    assert control_plane.server != other.server
    refused = other.kubectl(
        f"--server={control_plane.server}", "--request-timeout=2s", "get", "namespaces", check=False
    )
    assert refused.returncode != 0


def test_a_process_ends_with_its_cluster_and_inherits_nothing(clusters: MakeCluster) -> None:
    """A spawned process is recorded, runs as the user asked for, sees no variable of the caller, and has a log."""
    cluster = clusters("spawn")
    os.environ["FAIRLEAD_TEST_LEAK"] = "seen"
    try:
        process = cluster.spawn(
            "who", ["/bin/sh", "-c", "id -u; env; exec sleep 600"], env={"GIVEN": "yes"}, user=65532
        )
    finally:
        del os.environ["FAIRLEAD_TEST_LEAK"]
    text = wait_until(lambda: "GIVEN=yes" in process.log.read_text() and process.log.read_text(), "its output")
    assert str(text).startswith("65532\n")
    assert "FAIRLEAD_TEST_LEAK" not in str(text)
    cluster.down()
    assert not process.running


def _links_in_use() -> set[str]:
    """Name the links of clusters that are up: a freed number goes to the next one at once."""
    return {f"flc{record.number}" for record in records()}
