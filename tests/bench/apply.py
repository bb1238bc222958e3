"""
100 objects, created and then unchanged: `fairlead deploy --watch`, `kubectl apply --server-side`, and raw requests.

All three meet the same API server in the same run, in turn, each time in namespaces of their own that are empty. The
first two are timed as a person would, from the command to its end; Fairlead's way leads through relay and agent, and
ends when the objects are healthy, which kubectl's does not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.bench.audit import Requests, Window, count_requests
from tests.bench.figures import Figure, Peer, median, spread
from tests.bench.raw_requests import AT_ONCE, apply_raw
from tests.cluster.binaries import binary
from tests.e2e.chart_rights import apply_chart_rights
from tests.e2e.engine_world import config_map, deployment, service
from tests.e2e.installation import make_installation
from tests.polling import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.bench.workplace import Workplace
    from tests.cluster.cluster import Cluster
    from tests.e2e.installation import Installation

ROUNDS: Final = 7
OF_EACH_KIND: Final = 25
OBJECTS: Final = 4 * OF_EACH_KIND
_COMMAND_SECONDS: Final = 120.0
_ADMIN: Final = "kubernetes-admin"
_WAYS: Final = ("fairlead", "kubectl", "raw")
_STEPS: Final = ("fetch", "preflight", "apply", "wait")
_TARGET_CREATE: Final = 1.25
_TARGET_TWO_PASSES: Final = 1.3
_TARGET_UNCHANGED: Final = 1.5


@dataclass
class _Ground:
    """Where all three work."""

    installation: Installation
    home: Path
    """Of the person who types the commands; holds the manifests and the command's configuration."""
    token: str
    """Of the raw requests' ServiceAccount."""
    manifests: Sequence[dict[str, Any]]

    @property
    def cluster(self) -> Cluster:
        """The API server."""
        return self.installation.cluster

    @property
    def file(self) -> Path:
        """The manifests, for both commands."""
        return self.home / "manifests.json"

    @property
    def agent_user(self) -> str:
        """Whom the API server takes the agent for."""
        rights = self.installation.agent.rights
        return f"system:serviceaccount:{rights.namespace}:{rights.service_account}"


@dataclass
class _Taken:
    """Seconds of one way and one case, a value a round, and the windows for counting."""

    seconds: list[float] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of each part of a deployment."""

    def counted(self, cluster: Cluster) -> Requests:
        """Return the requests of the median round."""
        counts = count_requests(cluster, self.windows)
        return sorted(counts, key=lambda one: one.all)[len(counts) // 2]


def measure(workplace: Workplace) -> list[Figure]:
    """Go through the rounds; the first is not counted."""
    ground = _make_ground(workplace)
    create = {way: _Taken() for way in ("fairlead", "kubectl", "dry-run", "write")}
    unchanged = {way: _Taken() for way in create}
    for number in range(ROUNDS + 1):
        # A first round fills caches on all sides: discovery, connections, compiled statements.
        kept = (create, unchanged) if number else tuple({way: _Taken() for way in create} for _ in range(2))
        for taken in kept:
            for way in _WAYS:
                if way == "fairlead":
                    _fairlead(ground, number, taken[way])
                elif way == "kubectl":
                    _kubectl(ground, number, taken[way])
                else:
                    _raw(ground, number, taken)
                _settle(ground.cluster, _namespace(way, number))
    figures = _figures(ground, create, unchanged)
    ground.installation.close()
    ground.installation.relay.close()
    return figures


def _figures(ground: _Ground, create: dict[str, _Taken], unchanged: dict[str, _Taken]) -> list[Figure]:
    passes = [dry + write for dry, write in zip(create["dry-run"].seconds, create["write"].seconds, strict=True)]
    counted = {
        (case, way): taken[way].counted(ground.cluster)
        for case, taken in (("create", create), ("unchanged", unchanged))
        for way in ("fairlead", "kubectl")
    }
    inside = [sum(parts) for parts in zip(*(create["fairlead"].steps[step] for step in _STEPS), strict=True)]
    same_inside = [sum(parts) for parts in zip(*(unchanged["fairlead"].steps[step] for step in _STEPS), strict=True)]
    kubectl = "kubectl apply --server-side"
    return [
        _seconds("create, command to command", create["fairlead"].seconds, kubectl, create["kubectl"].seconds,
                 _TARGET_CREATE, note=_parts(create["fairlead"])),
        _seconds("create, the agent's part", inside, f"raw dry-run pass + write pass, {AT_ONCE} at once", passes,
                 _TARGET_TWO_PASSES, note="fetch, preflight, apply and wait, without command, relay and link"),
        _seconds("unchanged, command to command", unchanged["fairlead"].seconds, kubectl, unchanged["kubectl"].seconds,
                 _TARGET_CREATE, note=_parts(unchanged["fairlead"])),
        _seconds("unchanged, the agent's part", same_inside, f"one raw write pass, {AT_ONCE} at once",
                 unchanged["write"].seconds, _TARGET_UNCHANGED),
        *(
            Figure(
                name=f"requests to the API server for each object, {case}",
                value=counted[case, "fairlead"].all / OBJECTS, unit="requests",
                samples=f"median of {ROUNDS}, from the audit log",
                peer=Peer(name=kubectl, value=counted[case, "kubectl"].all / OBJECTS),
            )
            for case in ("create", "unchanged")
        ),
        Figure(
            name="writes to the application's objects, unchanged", value=counted["unchanged", "fairlead"].writes,
            unit="writes", samples=f"median of {ROUNDS}, from the audit log", target="0",
            is_met=counted["unchanged", "fairlead"].writes == 0,
            peer=Peer(name=kubectl, value=counted["unchanged", "kubectl"].writes),
        ),
    ]  # fmt: skip


def _seconds(
    name: str, ours: Sequence[float], peer: str, theirs: Sequence[float], factor: float, note: str = ""
) -> Figure:
    value, other = median(ours), median(theirs)
    return Figure(
        name=f"{OBJECTS} objects, {name}",
        value=value,
        unit="s",
        samples=spread(ours),
        peer=Peer(name=peer, value=other),
        target=f"≤ ×{factor}",
        is_met=value <= factor * other,
        note=note,
    )


def _parts(taken: _Taken) -> str:
    told = ", ".join(f"{name} {median(seconds):.2f}" for name, seconds in taken.steps.items())
    return f"median seconds of its parts: {told}"


def _fairlead(ground: _Ground, number: int, taken: _Taken) -> None:
    argv = [_program("fairlead"), "deploy", "-f", str(ground.file), "--env", f"shop/round-{number}"]
    window, output = _timed([*argv, "--watch", "-o", "json"], ground, ground.agent_user, _namespace("fairlead", number))
    taken.windows.append(window)
    taken.seconds.append(window.ended - window.began)
    at = {}
    for record in ground.installation.records(json.loads(output)["id"]):
        told = record["event"]
        at[told.get("key") or told.get("state")] = told["at"]
    parts = {"command until accepted": at["queued"] - window.began}
    parts["until the agent began"] = at["step/verify/started"] - at["queued"]
    parts |= {step: at[f"step/{step}/finished"] - at[f"step/{step}/started"] for step in _STEPS}
    parts["from the agent's result to the command's end"] = window.ended - at["result"]
    for part, seconds in parts.items():
        taken.steps.setdefault(part, []).append(seconds)


def _kubectl(ground: _Ground, number: int, taken: _Taken) -> None:
    inside = ["nsenter", f"--net={ground.cluster.netns}", "--", str(binary("kubectl"))]
    choice = [f"--kubeconfig={ground.cluster.kubeconfig}", f"--namespace={_namespace('kubectl', number)}"]
    argv = [*inside, *choice, "apply", "--server-side", f"--filename={ground.file}"]
    window, _ = _timed(argv, ground, _ADMIN, _namespace("kubectl", number))
    taken.windows.append(window)
    taken.seconds.append(window.ended - window.began)


def _raw(ground: _Ground, number: int, taken: dict[str, _Taken]) -> None:
    for way, dry_run in (("dry-run", True), ("write", False)):
        seconds = apply_raw(ground.cluster, ground.token, _namespace("raw", number), ground.manifests, dry_run=dry_run)
        taken[way].seconds.append(seconds)


def _timed(argv: Sequence[str], ground: _Ground, user: str, namespace: str) -> tuple[Window, str]:
    """Run a command; clocks of one machine, so that the audit log's times can be compared with these."""
    began = time.time()
    finished = subprocess.run(
        argv, env=_variables(ground.home), capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
    )
    ended = time.time()
    if finished.returncode:
        raise OSError(f"`{' '.join(argv)}` exited {finished.returncode}: {finished.stderr[-2000:]}")
    return Window(user=user, namespace=namespace, began=began, ended=ended), finished.stdout


def _namespace(way: str, number: int) -> str:
    return f"bench-{way}-{number}"


def _settle(cluster: Cluster, namespace: str) -> None:
    """Wait until the controllers have answered everything, so that they do not disturb the next measurement."""
    look = ("get", "replicasets", f"--namespace={namespace}", "-o", "name")

    def answered() -> bool:
        return len(cluster.kubectl(*look).stdout.split()) == OF_EACH_KIND

    wait_until(answered, f"the controllers to answer everything in {namespace}", 60)


def _make_ground(workplace: Workplace) -> _Ground:
    relay = workplace.relay(for_cluster=True)
    cluster = workplace.control_plane
    installation = make_installation(relay, cluster, workplace.folder("agent"))
    workplace.at_end().callback(installation.close)
    rounds = range(ROUNDS + 1)
    _bind(installation, [_namespace("fairlead", number) for number in rounds])
    for number in rounds:
        body = {
            "name": f"round-{number}",
            "type": "staging",
            "cluster": "blue",
            "namespace": _namespace("fairlead", number),
        }
        installation.api.ask("POST", f"{installation.path}/applications/shop/environments", body, 201)
        for way in ("kubectl", "raw"):
            cluster.kubectl("create", "namespace", _namespace(way, number))
    cluster.kubectl("create", "serviceaccount", "raw")
    cluster.kubectl(
        "create", "clusterrolebinding", "raw", "--clusterrole=cluster-admin", "--serviceaccount=default:raw"
    )
    home = workplace.folder("home")
    ground = _Ground(installation, home, cluster.token("default", "raw"), _manifests())
    ground.file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": ground.manifests}))
    login = [_program("fairlead"), "login", relay.api_url, "--ca-file", str(relay.ca_file)]
    token = relay.token("deployer", installation.organization)
    subprocess.run(login, input=token, text=True, env=_variables(home), capture_output=True, check=True, timeout=60)
    installation.agent.start()
    installation.until_agent("connected")
    return ground


def _bind(installation: Installation, namespaces: Sequence[str]) -> None:
    """Give the agent its chart's rights in further namespaces, as an operator who changed the values would."""
    environments = [{"organization": installation.organization, "application": "shop", "environment": "*", "type": "*"}]
    bindings = [{"namespace": name, "environments": environments} for name in namespaces]
    own = installation.agent.rights.namespace
    applied = apply_chart_rights(installation.cluster, {"policy": {"bindings": bindings}}, namespace=own)
    applied.write_policy(installation.agent.policy_file)


def _manifests() -> list[dict[str, Any]]:
    kinds: tuple[Callable[[str], dict[str, Any]], ...] = (config_map, _account, service, deployment)
    return [make(f"part-{number}") for make in kinds for number in range(OF_EACH_KIND)]


def _account(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def _variables(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "FAIRLEAD_CONFIG": str(home / "config.yaml")}


def _program(name: str) -> str:
    return f"{sys.prefix}/bin/{name}"
