"""
The pages of the documentation, typed: what they promise happens, on real clusters with a real relay and a real agent.

README.md and docs/demo.md show what `make demo` types; test_demo compares them with that.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.cluster.cluster import Cluster
from tests.cluster.images import probe_image_tar
from tests.cluster.registry import Registry
from tests.e2e.chart_rights import apply_chart_rights
from tests.e2e.installation import AgentProcess
from tests.e2e.typed_pages import Terminal, file_of
from tests.integration.relay_process import RelayProcess
from tests.polling import PATIENCE_SECONDS, wait_until
from tests.product.images import product_image
from tests.product.target import Target, render
from tests.repository.checkout import ROOT
from tests.repository.pages import blocks, pages

INSTALL: Final = ROOT / "docs" / "install.md"
CLI: Final = ROOT / "docs" / "cli.md"
OPERATE: Final = ROOT / "docs" / "operate.md"

API_NODE_PORT, AGENT_NODE_PORT = 31543, 31544
"""Of the relay that install.md installs; that of test_charts may be there as well."""

EXIT_ERROR, EXIT_CANCELLED = 1, 3
EXIT_CHANGES = 1
"""Of `fairlead diff`, as of diff(1)."""
EXAMPLE_ID: Final = "01k9x0q6v3t1m8c5n7b2d4f6gh"
"""The deployment of cli.md's examples."""
INSTALLED_BY_KUBECTL: Final = "deployment.apps/fairlead-agent"
"""What the chart makes, as kubectl names it."""
WEB: Final[dict[str, Any]] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"a": "1"}}
PASSWORD: Final = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": {"password": "x"}}


def test_helm_accepts_the_values_as_they_stand() -> None:
    """Each block of YAML named after a chart passes its schema and renders."""
    judged = {
        name: render(f"fairlead-{Path(name).stem}", "one", "fairlead", yaml.safe_load(block.text))
        for page in pages()
        for block in blocks(page)
        if block.text.startswith(("# agent.yaml\n", "# relay.yaml\n")) and (name := file_of(block))
    }
    assert set(judged) == {"agent.yaml", "relay.yaml"}


@contextmanager
def serving(terminal: Terminal, data: Path) -> Iterator[None]:
    """Run install.md's `fairlead-relay serve` while the block runs; SIGTERM ends it, with exit code 0."""
    (serve,) = [block.shell for block in blocks(INSTALL) if "fairlead-relay serve" in block.shell]
    log = terminal.directory / "relay.log"
    with log.open("ab") as stream:
        started = subprocess.Popen(
            ["bash", "-c", f"exec {terminal.typed(serve)}"],
            cwd=terminal.directory,
            env=terminal.variables,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        wait_until(lambda: (data / "ready.json").exists() or started.poll() is not None, "the relay")
        assert started.poll() is None, log.read_text()
        yield
        started.send_signal(signal.SIGTERM)
        assert started.wait(PATIENCE_SECONDS) == 0, log.read_text()
    finally:
        started.kill()
        started.wait()


def test_a_relay_on_a_machine_and_its_backup(tmp_path: Path) -> None:
    """install.md up to the login, then operate.md: what was backed up is all that a relay needs to go on."""
    data = tmp_path / "var" / "fairlead-relay"
    data.parent.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    replacements = {
        "--server-name relay.example.com --api-listen :7443": f"--server-name 127.0.0.1 --api-listen {address}",
        "relay.example.com:7443": address,
        "/var/lib/fairlead-relay": str(data),
    }
    terminal = Terminal(tmp_path / "home", replacements, {"FAIRLEAD_RELAY_AGENT_LISTEN": "127.0.0.1:0"})
    _serve, login = [block.shell for block in blocks(INSTALL) if block.section == "On a machine"]
    back_up, restore = [block.shell for block in blocks(OPERATE) if block.section == "Back up"]
    with serving(terminal, data):
        terminal.run(login)
        terminal.run("fairlead app create shop")
        assert "$FAIRLEAD_RELAY_AGENT_LISTEN" in terminal.type_section(OPERATE, "Settings of the relay")
        assert "FAIL" not in terminal.type_section(OPERATE, "What is wrong")
        assert "would go" in terminal.type_section(OPERATE, "What is forgotten")
        terminal.run(back_up)
    shutil.rmtree(data)
    terminal.run(restore)
    with serving(terminal, data):
        assert terminal.run("fairlead app list -o name").split() == ["shop"]


@pytest.fixture
def installing(
    relay_cluster: Cluster, cluster: Cluster, registry: Registry, tmp_path: Path
) -> tuple[Terminal, Target, Target]:
    """Return a terminal for install.md, the relay's cluster and the agent's."""
    for admitted in (relay_cluster, cluster):
        registry.admit(admitted)
    relay_cluster.open_inwards(API_NODE_PORT)
    agent_port = relay_cluster.forward(AGENT_NODE_PORT)  # in place of the load balancer
    cluster.allow(agent_port)
    replacements = {
        "https://relay.example.com:7443": f"https://{relay_cluster.network.address}:{API_NODE_PORT}",
        "wss://agents.example.com:7444": f"wss://{cluster.outside_address}:{agent_port}",
        "type: LoadBalancer, port: 7443": f"type: NodePort, port: 7443, nodePort: {API_NODE_PORT}",
        "type: LoadBalancer, port: 7444": f"type: NodePort, port: 7444, nodePort: {AGENT_NODE_PORT}",
    }
    for built in (product_image(registry, "relay"), product_image(registry, "agent")):
        # By digest: other checkouts may push images of this version to the same registry.
        pinned = f"{registry.address}/{built.repository}, digest: {built.digest}"
        replacements[f"registry.example.com/{built.repository}"] = pinned
    terminal = Terminal(tmp_path / "home", replacements)
    image = registry.push(probe_image_tar(), "fairlead-test/probe", "1")
    labels = {"app": "web"}
    pod = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "probe", "image": image, "args": ["serve"]}]},
    }
    spec = {"selector": {"matchLabels": labels}, "template": pod}
    web = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    write(terminal, "k8s/web.yaml", web)
    return terminal, Target.of_cluster(relay_cluster), Target.of_cluster(cluster)


def test_installation_on_kubernetes(installing: tuple[Terminal, Target, Target]) -> None:
    """install.md from two empty clusters to a deployment that succeeds, and to the end of its agent."""
    terminal, relay, agent = installing
    terminal.use(relay)
    for section in ("On Kubernetes", "Log in"):
        terminal.type_section(INSTALL, section)
    terminal.type_section(OPERATE, "An authority in a Secret")
    terminal.use(agent)
    for section in ("An agent", "The first deployment"):
        terminal.type_section(INSTALL, section)
    printed = terminal.type_section(INSTALL, "Without the internet")
    assert f"{INSTALLED_BY_KUBECTL} configured (server dry run)" in printed
    assert (
        agent.kubectl("--namespace", "shop", "get", "deployment", "web", "--output=jsonpath={.status.readyReplicas}")
        == "1"
    )
    assert "FAIL" not in terminal.type_section(OPERATE, "Networks that inspect TLS")
    terminal.type_section(INSTALL, "Uninstall")
    assert (
        agent.kubectl("--namespace", "shop", "get", "deployment", "web", "--output=name").strip()
        == "deployment.apps/web"
    )
    typed = {"On a machine", "On Kubernetes", "Log in", "An agent", "The first deployment", "Without the internet"}
    # Values are judged by helm, see above.
    assert {block.section for block in blocks(INSTALL) if block.shell} == typed | {"Uninstall"}
    assert {block.section for block in blocks(OPERATE) if block.shell} == {
        "An authority in a Secret",
        "Back up",
        "Networks that inspect TLS",
        "Settings of the relay",
        "What is forgotten",
        "What is wrong",
    }


@pytest.fixture
def developer(relay: RelayProcess, control_plane: Cluster, tmp_path: Path) -> Terminal:
    """Return a terminal for cli.md, with the files that its commands name; the organization is `docs`."""
    replacements = {
        "https://relay.example.com:7443": relay.api_url,
        # It never ends by itself: the reader leaves after a line, which only the next line tells it, or its time is up.
        "fairlead events -f\n": "{ timeout 5 fairlead events -f || test $? -eq 141 -o $? -eq 124; } | head -1\n",
    }
    terminal = Terminal(tmp_path / "home", replacements)
    terminal.use(Target.of_cluster(control_plane))
    shutil.copy(relay.ca_file, terminal.directory / "ca.pem")
    (terminal.directory / "api-token").write_text(relay.token("admin", "docs"))
    write(terminal, "k8s/web.yaml", WEB)
    write(terminal, "k8s/db.yaml", PASSWORD)
    write(terminal, "overlays/staging/web.yaml", WEB | {"data": {"a": "2"}})
    write(terminal, "overlays/staging/kustomization.yaml", {"resources": ["web.yaml"]})
    return terminal


@pytest.fixture
def expected_agent(relay: RelayProcess, control_plane: Cluster, tmp_path: Path) -> Iterator[AgentProcess]:
    """Return the agent of the cluster that cli.md creates; it has its rights, and no token yet."""
    binding = {"organization": "docs", "application": "shop", "environment": "staging", "type": "staging"}
    policy = {"bindings": [{"namespace": "shop", "environments": [binding]}]}
    rights = apply_chart_rights(control_plane, {"policy": policy}, namespace="fairlead-docs")
    relay_url = f"wss://{control_plane.outside_address}:{relay.agent_port}"
    agent = AgentProcess(control_plane, tmp_path / "agent", relay_url, rights)
    agent.directory.mkdir()
    yield agent
    agent.kill()


def test_the_page_of_the_command(relay: RelayProcess, developer: Terminal, expected_agent: AgentProcess) -> None:
    """cli.md from login to revocation, each command in its order, the exit codes as its table has them."""
    terminal, agent = developer, expected_agent
    api = relay.client((terminal.directory / "api-token").read_text())

    def until(state: str) -> None:
        path = "/v1/organizations/docs/clusters/prod"
        wait_until(lambda: api.ask("GET", path)["state"] == state, f"the agent to be {state}")

    terminal.type_section(CLI, "Log in")
    terminal.type_section(CLI, "Several relays")
    terminal.type_section(CLI, "Organizations and tokens")
    audited = terminal.type_section(CLI, "Audit")
    assert {"application.create", "token.revoke"} <= set(audited.split())
    terminal.type_section(CLI, "Clusters, applications, environments")
    labelled = terminal.type_section(CLI, "Labels")
    assert "region=eu,tier=gold" in labelled
    assert re.search(r"^prod .*region=eu", labelled, re.MULTILINE)
    agent.write_files((terminal.directory / "token").read_text())
    agent.start()
    until("connected")
    terminal.type_section(CLI, "Deploy")
    assert 'data.a: "1" → "2"' in terminal.type_section(CLI, "Compare", exits=EXIT_CHANGES)
    rolled_back, overlay, first = terminal.run("fairlead deployments list shop/staging -o name").split()
    terminal.replacements[EXAMPLE_ID] = overlay
    seen = terminal.type_section(CLI, "See")
    assert "shop/staging: Healthy" in seen
    assert all(one in seen for one in (rolled_back, overlay, first))
    assert "DRIFT" in terminal.type_section(CLI, "Drift")
    agent.kill()
    until("offline")
    terminal.type_section(CLI, "Supersede and cancel", exits=EXIT_CANCELLED)
    agent.start()
    until("connected")
    assert "result: succeeded" in terminal.type_section(CLI, "Jobs, and trying again")
    terminal.environment["FAIRLEAD_CONFIG"] = str(terminal.directory / "nobody" / "config.yaml")  # CI has no login
    assert json.loads(terminal.type_section(CLI, "In CI"))["state"] == "succeeded"
    del terminal.environment["FAIRLEAD_CONFIG"]
    assert "pruned ConfigMap shop/web" in terminal.type_section(CLI, "Delete an environment")
    terminal.type_section(CLI, "Agents, and cutting them off")
    until("revoked")
    assert "bakery" in terminal.type_section(CLI, "Any other call")
    terminal.type_section(CLI, "Approve a key", exits=EXIT_ERROR)  # nobody waits for it
    typed = {"Log in", "Clusters, applications, environments", "Deploy", "Compare", "See", "Drift", "In CI"}
    typed |= {"Supersede and cancel", "Jobs, and trying again"}
    typed |= {
        "Labels",
        "Delete an environment",
        "Several relays",
        "Organizations and tokens",
        "Audit",
        "Any other call",
        "Agents, and cutting them off",
        "Approve a key",
    }
    assert {block.section for block in blocks(CLI)} == typed


def write(terminal: Terminal, name: str, document: dict[str, Any]) -> None:
    """Write a manifest below the terminal's folder."""
    path = terminal.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
