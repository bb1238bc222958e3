"""
1,000 deployments of one small application each, through one agent: 1,000 environments, 50 in each of 20 namespaces.

Everything that a deployment has is there a thousand times: statement, job, checkpoint, inventory, preflight, story. The
same objects go through one `kubectl apply --server-side` in the same run, which has nothing of that.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from fairlead_cli.deployment_ids import new_deployment_id
from fairlead_shared.bundle import make_bundle
from fairlead_shared.jobs import JobState
from tests.bench.apply import Ground, Size, Taken, apply_with_kubectl, make_ground, namespaces_of, settle
from tests.bench.audit import Window, count_requests
from tests.bench.figures import Figure, Peer, median, spread
from tests.bench.processes import cpu_seconds_of
from tests.bench.workplace import Workplace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.e2e.installation import Installation

_SIZE: Final = Size(applications=1_000, namespaces=20, rounds=3)
_CALLERS: Final = 8
_SECONDS: Final = 600.0
_TARGET: Final = 2.0
_PEER: Final = "kubectl apply --server-side, all at once"


@dataclass
class _Way:
    """What one way took, a value a round; seconds of CPU."""

    taken: Taken = field(default_factory=Taken)
    """With the agent's CPU."""
    relay: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    """The API server's, controllers' requests included."""


def measure(_: Workplace) -> list[Figure]:
    """
    Go through rounds that have an API server, a relay and an agent of their own each.

    A round's thousand environments stay watched, which would be in the way of the next. Caches are filled by an
    application for each namespace, which is not counted.
    """
    ours, theirs = _Way(), _Way()
    for number in range(_SIZE.rounds):
        with Workplace() as workplace:
            ground = make_ground(workplace, replace(_SIZE, rounds=1))
            for counts in (False, True):
                _make_environments(ground, int(counts))
                ways = [
                    ("fairlead", _deploy_all, ours if counts else _Way()),
                    ("kubectl", apply_with_kubectl, theirs if counts else _Way()),
                ]
                # Whoever comes later finds an API server that holds more.
                for name, work, way in ways if number % 2 == 0 else reversed(ways):
                    _go(ground, int(counts), work, way)
                    settle(ground, name, int(counts))
            ground.close()
    return _figures(ours, theirs)


def _go(ground: Ground, number: int, work: Callable[[Ground, int, Taken], None], way: _Way) -> None:
    """Go one way, and note what relay and API server spent on it."""
    relay = ground.installation.relay.process
    assert relay is not None
    before = cpu_seconds_of(relay.pid), _cpu_seconds_of_server(ground)
    work(ground, number, way.taken)
    way.relay.append(cpu_seconds_of(relay.pid) - before[0])
    way.server.append(_cpu_seconds_of_server(ground) - before[1])


def _cpu_seconds_of_server(ground: Ground) -> float:
    text = ground.cluster.kubectl("get", "--raw", "/metrics").stdout
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("process_cpu_seconds_total "))


def _figures(ours: _Way, theirs: _Way) -> list[Figure]:
    value, other = median(ours.taken.seconds), median(theirs.taken.seconds)

    def cpu(whose: str, spent: Sequence[float], peer: Peer | None = None) -> Figure:
        each = [1000 * seconds / _SIZE.applications for seconds in spent]
        name = f"CPU of the {whose} for each deployment"
        return Figure(name=name, value=median(each), unit="ms", samples=spread(each, 1), peer=peer)

    return [
        Figure(
            name=f"{_SIZE.applications:,} deployments of 4 objects each, created",
            value=value,
            unit="s",
            samples=spread(ours.taken.seconds),
            peer=Peer(name=_PEER, value=other),
            target=f"≤ ×{_TARGET:g}",
            is_met=value <= _TARGET * other,
            note=f"from the first request to the last success: {_SIZE.applications / value:.0f} deployments/s",
        ),
        Figure(
            name="requests to the API server for each deployment",
            value=ours.taken.counted.all / _SIZE.applications,
            unit="requests",
            samples=f"median of {_SIZE.rounds}, from the audit log",
            peer=Peer(name=_PEER, value=theirs.taken.counted.all / _SIZE.applications),
        ),
        cpu("agent", ours.taken.cpu_seconds),
        cpu("relay", ours.relay),
        cpu("API server", ours.server, Peer(name=_PEER, value=1000 * median(theirs.server) / _SIZE.applications)),
    ]


def _make_environments(ground: Ground, number: int) -> None:
    installation = ground.installation
    for name, manifests in _applications(ground, number).items():
        namespace = manifests[0]["metadata"]["namespace"]
        body = {"name": name, "type": "staging", "cluster": "blue", "namespace": namespace}
        installation.api.ask("POST", f"{installation.path}/applications/shop/environments", body, 201)


def _deploy_all(ground: Ground, number: int, taken: Taken) -> None:
    """Deploy a round's applications, and wait until all are in place, health included."""
    applications = _applications(ground, number)
    installation = ground.installation

    def deploy(name: str) -> str:
        bundle = make_bundle(applications[name])
        upload = installation.api.put(f"{installation.path}/bundles/{bundle.sha256}", content=bundle.content)
        upload.raise_for_status()
        body = {"deployment_id": new_deployment_id(), "bundle_sha256": bundle.sha256}
        environment = f"{installation.path}/applications/shop/environments/{name}"
        return str(installation.api.ask("POST", f"{environment}/deployments", body, 202)["id"])

    process = installation.agent.process
    assert process is not None
    spent, began = cpu_seconds_of(process.pid), time.time()
    with ThreadPoolExecutor(_CALLERS) as callers:
        for deployment_id in list(callers.map(deploy, applications)):
            story = _whole_story(installation, deployment_id)
            states = [told["event"]["state"] for told in story if told["event"]["type"] == "job"]
            if states[-1] != JobState.SUCCEEDED:
                raise OSError(f"deployment {deployment_id} did not succeed: {story[-1]}")
    namespaces = frozenset(namespaces_of(ground.size, "fairlead", number))
    window = Window(user=ground.agent_user, namespaces=namespaces, began=began, ended=time.time())
    taken.cpu_seconds.append(cpu_seconds_of(process.pid) - spent)
    taken.seconds.append(window.ended - window.began)
    taken.requests.append(count_requests(ground.cluster, window))


def _whole_story(installation: Installation, deployment_id: str) -> list[dict[str, Any]]:
    """Follow a deployment to its end, as its caller would: to ask again and again would keep the relay busy."""
    url = f"{installation.path}/deployments/{deployment_id}/events"
    answer = installation.api.get(url, headers={"Accept": "application/x-ndjson"}, timeout=_SECONDS)
    answer.raise_for_status()
    return [json.loads(line) for line in answer.text.splitlines() if line]


def _applications(ground: Ground, number: int) -> dict[str, list[dict[str, Any]]]:
    """Return environment → the four objects of its application."""
    made: dict[str, list[dict[str, Any]]] = {}
    for manifest in ground.manifests("fairlead", number):
        made.setdefault(f"round-{number}-{manifest['metadata']['name']}", []).append(manifest)
    assert {manifest["metadata"]["namespace"] for one in made.values() for manifest in one} == set(
        namespaces_of(ground.size, "fairlead", number)
    )
    return made
