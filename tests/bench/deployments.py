"""
1,000 deployments of one small application each, through one agent: 1,000 environments, 50 in each of 20 namespaces.

Everything that a deployment has is there a thousand times: statement, job, checkpoint, inventory, preflight, story. The
same objects go through one `kubectl apply --server-side` in the same run, which has nothing of that.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from fairlead_cli.deployment_ids import new_deployment_id
from fairlead_shared.bundle import make_bundle
from fairlead_shared.jobs import JobState
from tests.bench.apply import Ground, Size, Taken, apply_with_kubectl, make_ground, namespaces_of, settle
from tests.bench.audit import Window, count_requests
from tests.bench.figures import Figure, Peer, median, spread
from tests.bench.processes import cpu_seconds_of

if TYPE_CHECKING:
    from tests.bench.workplace import Workplace
    from tests.e2e.installation import Installation

_SIZE: Final = Size(applications=1_000, namespaces=20, rounds=3)
_CALLERS: Final = 8
_SECONDS: Final = 600.0
_TARGET: Final = 2.0
_PEER: Final = "kubectl apply --server-side, all at once"


def measure(workplace: Workplace) -> list[Figure]:
    """Go through the rounds; the first is not counted."""
    ground = make_ground(workplace, _SIZE)
    ours, theirs = Taken(), Taken()
    for number in range(_SIZE.rounds + 1):
        # A first round fills caches on all sides: connections, compiled statements.
        kept = (ours, theirs) if number else (Taken(), Taken())
        _deploy_all(ground, number, kept[0])
        settle(ground, "fairlead", number)
        apply_with_kubectl(ground, number, kept[1])
        settle(ground, "kubectl", number)
    ground.installation.close()
    ground.installation.relay.close()
    value, other = median(ours.seconds), median(theirs.seconds)
    return [
        Figure(
            name=f"{_SIZE.applications:,} deployments of 4 objects each, created",
            value=value,
            unit="s",
            samples=spread(ours.seconds),
            peer=Peer(name=_PEER, value=other),
            target=f"≤ ×{_TARGET:g}",
            is_met=value <= _TARGET * other,
            note=f"from the first request to the last success: {_SIZE.applications / value:.0f} deployments/s",
        ),
        Figure(
            name="requests to the API server for each deployment",
            value=ours.counted.all / _SIZE.applications,
            unit="requests",
            samples=f"median of {_SIZE.rounds}, from the audit log",
            peer=Peer(name=_PEER, value=theirs.counted.all / _SIZE.applications),
        ),
        Figure(
            name="CPU of the agent for each deployment",
            value=1000 * median(ours.cpu_seconds) / _SIZE.applications,
            unit="ms",
            samples=spread(ours.cpu_seconds),
        ),
    ]


def _deploy_all(ground: Ground, number: int, taken: Taken) -> None:
    """Deploy a round's applications, and wait until all are in place, health included."""
    applications = _applications(ground, number)
    installation = ground.installation
    for name, manifests in applications.items():
        namespace = manifests[0]["metadata"]["namespace"]
        body = {"name": name, "type": "staging", "cluster": "blue", "namespace": namespace}
        installation.api.ask("POST", f"{installation.path}/applications/shop/environments", body, 201)

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
