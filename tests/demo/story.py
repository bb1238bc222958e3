"""
The demo's steps, in order. Each says what it does and runs the commands a person would type.

Must not: know whose cluster it is, beyond asking whether it is a private one, or outlive the demo with anything it
starts: the home's record ends it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.cluster import process
from tests.cluster.commands import wait_until
from tests.cluster.demo_images import DEMO, demo_manifests
from tests.cluster.errors import ClusterError
from tests.cluster.progress import seconds_text
from tests.demo.narration import DemoFailed
from tests.product.target import CHARTS

if TYPE_CHECKING:
    from tests.demo.ground import Ground, Home, Place
    from tests.demo.narration import Narrator, Shell

STEPS = 9
"""Those of `tell`, and the one before it that brings up the clusters."""
_BIN = Path(sys.prefix) / "bin"
"""Where the workspace's commands are."""
_EXIT_FAILED = 5
"""What `fairlead deploy --watch` ends with when the deployment failed."""
_DIAL_SECONDS = 1.0
_GONE_SECONDS = 60.0
_FORWARD_SECONDS = 30.0
_APP_PODS = 2
"""Replicas of `app` in every version."""
_VERSIONS: dict[str, tuple[str, ...]] = {"v1": (), "broken": ("broken",), "v2": ("v2",)}
"""Folder in the demo's directory → overlays over deploy/demo/manifests."""


def environment(home: Home, kubeconfig: str | None) -> dict[str, str]:
    """
    Return what commands see of the environment: the workspace's commands first, and no setting of another relay.

    Args:
        home: Holds the configuration of `fairlead`.
        kubeconfig: The user's KUBECONFIG, where the user's cluster is used.
    """
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("FAIRLEAD_", "DEMO_", "HELM_")) and name != "KUBECONFIG"
    }
    kept |= {"PATH": f"{_BIN}:{kept.get('PATH', '')}", "FAIRLEAD_CONFIG": str(home.directory / "config.yaml")}
    return kept | ({"KUBECONFIG": kubeconfig} if kubeconfig else {})


@dataclass(frozen=True, kw_only=True)
class Story:
    """One telling."""

    narrator: Narrator
    shell: Shell
    home: Home
    ground: Ground

    def tell(self) -> None:
        """Go through all steps. Raises: DemoFailed: One went another way."""
        try:
            self._relay()
            self._agent()
            self._deploy()
            self._front_door()
            self._break()
            self._roll_back()
            self._prune()
            self._summary()
        except DemoFailed:
            pods = (("relay", self.ground.relay, "statefulset"), ("agent", self.ground.agent, "deployment"))
            for name, place, kind in pods:
                with contextlib.suppress(ClusterError):
                    look = ("--namespace", place.namespace, "logs", f"{kind}/fairlead-{name}", "--tail=8")
                    self.narrator.say(f"\nThe {name}'s log ends:\n{place.target.kubectl(*look)}")
            raise

    def _relay(self) -> None:
        self.narrator.step(
            "A relay",
            "Its chart runs API, queue and certificate authority in one process with one volume. It has no way into "
            "the cluster that it will serve.",
        )
        relay = self.ground.relay
        self._say_where_kubectl_runs(relay)
        self._write("relay-namespace.yaml", _namespace(relay.namespace))
        self._kubectl(relay, "apply", "--filename", "relay-namespace.yaml")
        self.narrator.file(self._write("relay.yaml", dict(relay.values)))
        self._install(relay, "relay")
        if relay.cluster is None:
            self._forward_api(relay)
        self.narrator.say(f"people reach it at {self.ground.api_url}, agents at {self.ground.agent_url}")
        inside = ["--namespace", relay.namespace, "exec", "statefulset/fairlead-relay", "--", "fairlead-relay"]
        self.narrator.command(" ".join(["kubectl", *inside, "ca", "show", ">", "ca.pem"]))
        (self.home.directory / "ca.pem").write_text(self._read(relay, *inside, "ca", "show"))
        create = [*inside, "token", "create", "--organization", "acme", "--role", "admin"]
        login = ["fairlead", "login", self.ground.api_url, "--ca-file", "ca.pem"]
        self.shell.run(login, shown=" ".join(["kubectl", *create, "|", *login]), stdin=self._read(relay, *create))

    def _agent(self) -> None:
        self.narrator.step(
            "An agent in the cluster",
            "Its chart binds one namespace to one environment and grants rights there and nowhere else. The agent "
            "makes its keys inside, dials the relay and enrols with a token that works once.",
        )
        ground, agent = self.ground, self.ground.agent
        self.shell.run(["fairlead", "cluster", "create", "demo", "--token-file", "token"])
        self._say_where_kubectl_runs(agent)
        self._write("namespaces.yaml", *(_namespace(name) for name in (agent.namespace, ground.namespace)))
        self._kubectl(agent, "apply", "--filename", "namespaces.yaml")
        secret = ("create", "secret", "generic", "fairlead-enrolment", "--from-file=token")
        self._kubectl(agent, "--namespace", agent.namespace, *secret)
        values = {
            "relay": {"url": ground.agent_url},
            "enrolment": {"existingSecret": "fairlead-enrolment"},
            **agent.values,
            "policy": {"bindings": [{"namespace": ground.namespace, "environments": [_ENVIRONMENT]}]},
        }
        self.narrator.file(self._write("agent.yaml", values))
        self._install(agent, "agent")
        self.shell.run(["fairlead", "cluster", "list"])

    def _install(self, place: Place, member: str) -> None:
        """Install a member by its chart and the values in MEMBER.yaml."""
        argv = ["upgrade", "--install", f"fairlead-{member}", str(CHARTS / f"fairlead-{member}")]
        argv += ["--namespace", place.namespace, "--values", f"{member}.yaml", "--wait", "--timeout=3m", "--hide-notes"]
        target = place.target
        shown = f"helm {' '.join(argv)}".replace(str(CHARTS), "deploy/charts").replace(" --hide-notes", "")
        self.shell.run([str(target.helm_program), *target.helm_options, *argv], shown=shown, prefix=target.prefix)

    def _forward_api(self, relay: Place) -> None:
        """Have kubectl bring the API of a relay in the user's cluster to this machine, as long as the demo lasts."""
        port = self.ground.api_url.rpartition(":")[2]
        argv = ["--namespace", relay.namespace, "port-forward", "service/fairlead-relay-api", f"{port}:7443"]
        self.narrator.command(" ".join(["kubectl", *argv, "&"]))
        target = relay.target
        program = [*target.prefix, str(target.kubectl_program), *target.kubectl_options, *argv]
        seen = self.shell.environment
        variables = {name: seen[name] for name in ("HOME", "KUBECONFIG") if name in seen}
        started = process.start(self.home.record, self.home.group, "port-forward", program, environment=variables)
        started.await_effect(
            "the relay's API",
            lambda: None if _dial("127.0.0.1", int(port)) else "nobody listens yet",
            seconds=_FORWARD_SECONDS,
        )

    def _say_where_kubectl_runs(self, place: Place) -> None:
        if place.cluster is not None:
            self.narrator.say(
                "(kubectl and helm run inside, where the API server is: "
                f"python -m tests.cluster exec --name {place.cluster.name} -- kubectl …)"
            )

    def _deploy(self) -> None:
        self.narrator.step(
            "The first deployment",
            "Harbour: nginx, a Python program, Redis, PostgreSQL on a volume, a migration Job, a Secret. The files are "
            "those of deploy/demo/manifests with the registry filled in; the Secret leaves sealed to the agent.",
        )
        for folder, overlays in _VERSIONS.items():
            (self.home.directory / folder).mkdir()
            for name, text in demo_manifests(self.ground.registry, *overlays).items():
                (self.home.directory / folder / name).write_text(text)
        self.shell.run(["fairlead", "app", "create", "harbour"])
        place = ["--type", _ENVIRONMENT["type"], "--cluster", "demo", "--namespace", self.ground.namespace]
        self.shell.run(["fairlead", "env", "create", "harbour/demo", *place])
        self._fairlead_deploy("v1")
        self.narrator.say(f"Deployed {seconds_text(self.narrator.elapsed)} after the command that began all this.")

    def _front_door(self) -> None:
        self.narrator.step(
            "The front door, from inside and from outside",
            "From inside, the application answers with what its database holds.",
        )
        self._get("/api/ships")
        if not self.ground.is_private:
            self.narrator.say("\nWho can dial into your cluster from outside is your decision; the relay never does.")
            return
        self.narrator.say("\nFrom outside not even what every cluster has can be dialled:")
        for name, address, port in self._closed_doors():
            self.narrator.say(f"  {name:<16} {address}:{port:<6} no answer")

    def _break(self) -> None:
        self.narrator.step(
            "A broken change",
            "Somebody deploys an image tag that nobody pushed. The reason comes as soon as it is certain, not when a "
            "time limit is over; the version before goes on serving.",
        )
        self._fairlead_deploy("broken", exits=_EXIT_FAILED)
        self._get("/api/ships")

    def _roll_back(self) -> None:
        self.narrator.step(
            "Rollback", "The bundle that worked is deployed again; what is as it was then is not touched."
        )
        self.shell.run(["fairlead", "rollback", "harbour/demo", "--watch"])

    def _prune(self) -> None:
        self.narrator.step(
            "Version 2, and what it no longer has",
            "Version 2 has a migration Job of its own and not that of version 1. Fairlead made the old one, so "
            "Fairlead deletes it; what it did not make it never touches.",
        )
        self._fairlead_deploy("v2")
        self._kubectl(self.ground.agent, "--namespace", self.ground.namespace, "get", "jobs")
        # A pod that ends goes on answering for a while, as version 1.
        wait_until("the pods of version 1 being gone", self._find_old_pods, seconds=_GONE_SECONDS)
        self._get("/api/ships")

    def _summary(self) -> None:
        self.narrator.step(
            "Where we are",
            "One application, deployed, broken, rolled back and changed in a cluster that nobody outside can reach.",
        )
        self.shell.run(["fairlead", "status", "harbour/demo"])
        self.shell.run(["fairlead", "deployments", "list", "harbour/demo"])
        directory = self.home.directory
        lines = [
            "",
            "Try next, in another terminal, while this one waits:",
            "",
            f"  cd {directory}; export PATH={_BIN}:$PATH FAIRLEAD_CONFIG={directory}/config.yaml",
            "  fairlead events --follow                                   # leave it open beside the others",
            "  sed -i 's/replicas: 2/replicas: 3/' v2/web.yaml && fairlead deploy -f v2 --env harbour/demo --watch",
            "  fairlead rollback harbour/demo --watch",
            "  fairlead status harbour/demo",
            f"  curl --cacert ca.pem {self.ground.api_url}/v1/version",
        ]
        if (cluster := self.ground.agent.cluster) is not None:
            tool = f"{_BIN}/python -m tests.cluster exec --name {cluster.name} --"
            lines += [
                "",
                f"  cd {DEMO.parents[1]}",
                f"  {tool} kubectl --namespace {self.ground.namespace} delete deployment web   # then: fairlead status",
                f"  {tool} kubectl --namespace {self.ground.agent.namespace} logs deployment/fairlead-agent",
            ]
        self.narrator.say("\n".join(lines))

    def _fairlead_deploy(self, folder: str, *, exits: int = 0) -> None:
        self.shell.run(["fairlead", "deploy", "-f", folder, "--env", "harbour/demo", "--watch"], exits=exits)

    def _kubectl(self, place: Place, *arguments: str) -> None:
        target = place.target
        self.shell.run(
            [str(target.kubectl_program), *target.kubectl_options, *arguments],
            shown=" ".join(["kubectl", *arguments]),
            prefix=target.prefix,
        )

    def _read(self, place: Place, *arguments: str) -> str:
        """Ask kubectl without a word."""
        target = place.target
        return self.shell.read([str(target.kubectl_program), *target.kubectl_options, *arguments], prefix=target.prefix)

    def _find_old_pods(self) -> str | None:
        chosen = ("get", "pods", "--selector=app.kubernetes.io/name=app", "--output=name")
        pods = self._read(self.ground.agent, "--namespace", self.ground.namespace, *chosen).split()
        return None if len(pods) == _APP_PODS else f"there are {', '.join(pods)}"

    def _get(self, path: str) -> None:
        """Get a page by way of the API server, which dials the Service `web` from inside."""
        proxied = f"/api/v1/namespaces/{self.ground.namespace}/services/web:http/proxy{path}"
        self._kubectl(self.ground.agent, "get", "--raw", proxied)
        self.narrator.say("")

    def _write(self, name: str, *documents: object) -> Path:
        path = self.home.directory / name
        path.write_text(yaml.safe_dump_all(documents, sort_keys=False))
        return path

    def _closed_doors(self) -> list[tuple[str, str, int]]:
        """Dial what a cluster offers on its node, and return it all. Raises: DemoFailed: Something answered."""
        cluster = self.ground.agent.cluster
        if cluster is None:
            return []
        # Only the node's address is dialled: this machine has no route to pods and Services, so trying them would prove
        # nothing and send packets elsewhere. tests/cluster_tests gives itself such routes and proves the rest.
        node = cluster.network.address
        doors = [("the API server", node, 6443), ("the kubelet", node, 10250)]
        with ThreadPoolExecutor(len(doors)) as pool:
            opened = list(pool.map(lambda door: _dial(door[1], door[2]), doors))
        for (name, address, port), is_open in zip(doors, opened, strict=True):
            if is_open:
                raise DemoFailed(f"{name} at {address}:{port} answered from outside: this cluster is not private")
        return doors


_ENVIRONMENT = {"organization": "acme", "application": "harbour", "environment": "demo", "type": "demo"}


def _namespace(name: str) -> dict[str, object]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "fairlead.dev/demo": "true"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _dial(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=_DIAL_SECONDS).close()
    except OSError:
        return False
    return True
