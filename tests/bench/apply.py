"""
Objects created and then unchanged: `fairlead deploy --watch`, `kubectl apply --server-side`, and raw requests.

All three meet the same API server in the same run, in turn, each time in namespaces of their own that are empty. The
first two are timed as a person would, from the command to its end; Fairlead's way leads through relay and agent, and
ends when the objects are healthy, which kubectl's does not. Here with 100 objects; `applications` does it with 4,000,
and in a fourth way, by Flux's kustomize-controller.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from fairlead_shared.jobs import JobState
from tests.bench.audit import Requests, Window, count_requests
from tests.bench.figures import Figure, Peer, median, spread
from tests.bench.flux import PROGRAM as FLUX
from tests.bench.flux import KustomizeController
from tests.bench.processes import MIB, Memory, cpu_seconds_of, joining, memory_of, working_set_of
from tests.bench.progress import say
from tests.bench.raw_requests import AT_ONCE, apply_raw, wait_raw
from tests.bench.workplace import Workplace
from tests.cluster.binaries import binary
from tests.e2e.chart_rights import apply_chart_rights
from tests.e2e.engine_world import config_map, deployment, service
from tests.e2e.installation import make_installation
from tests.polling import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.cluster.cluster import Cluster
    from tests.cluster.process import Process
    from tests.e2e.installation import Installation

_COMMAND_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 0.1
"""Between two looks at the memory of the agent, or of its peer."""
_TOKEN_HOURS: Final = 8
_ADMIN: Final = "kubernetes-admin"
_WAYS: Final = ("fairlead", "kubectl", "raw")
_STEPS: Final = ("fetch", "preflight", "apply", "wait")
_AS_IN_ITS_IMAGE: Final = (
    "import runpy, sys; sys.modules['rich'] = None; runpy.run_module('fairlead_agent', run_name='__main__')"
)
"""The agent, without what only the other members' dependencies would have it import: 3 MiB. Run with `-OO`, too."""
_TARGET_CREATE: Final = 1.25
_TARGET_TWO_PASSES: Final = 1.3
_TARGET_UNCHANGED: Final = 1.5
_TARGET_UNCHANGED_COMMAND: Final = 0.6
_TARGET_CREATE_FLUX: Final = 0.6
_TARGET_UNCHANGED_FLUX: Final = 0.2
_TARGET_ANONYMOUS: Final = 64.0
_TARGET_WORKING_SET: Final = 96.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is applied."""

    applications: int
    """Of four objects each: ConfigMap, ServiceAccount, Service, Deployment without replicas, which uses the others."""
    namespaces: int
    """They are spread over so many, alike."""
    rounds: int
    """Beside one that is not counted."""

    @property
    def objects(self) -> int:
        """How many there are."""
        return 4 * self.applications


@dataclass
class Ground:
    """Where all of them work."""

    size: Size
    installation: Installation
    home: Path
    """Of the person who types the commands; holds the manifests and the command's configuration."""
    token: str
    """Of the raw requests' ServiceAccount."""
    memory_group: Path | None
    """The control group that counts the agent's memory, if the machine has such."""
    flux: KustomizeController | None = None
    """None where it is not compared with."""

    @property
    def cluster(self) -> Cluster:
        """The API server."""
        return self.installation.cluster

    def file(self, way: str, number: int) -> Path:
        """Write the manifests of a round for a command."""
        path = self.home / "manifests.json"
        items = self.manifests(way, number)
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        return path

    def manifests(self, way: str, number: int) -> list[dict[str, Any]]:
        """Return the objects of a round, spread over its namespaces; of round 0, one application for each."""
        namespaces = namespaces_of(self.size, way, number)
        kinds: tuple[Callable[[str], dict[str, Any]], ...] = (_settings, _account, service, _workload)
        applications = self.size.applications if number else len(namespaces)
        manifests = [make(f"part-{part}") for make in kinds for part in range(applications)]
        for place, manifest in enumerate(manifests):
            manifest["metadata"]["namespace"] = namespaces[place % applications % len(namespaces)]
        return manifests

    def close(self) -> None:
        """Stop what was started, the API server excepted."""
        if self.flux is not None:
            self.flux.stop()
        self.installation.close()
        self.installation.relay.close()

    @property
    def agent_user(self) -> str:
        """Whom the API server takes the agent for."""
        rights = self.installation.agent.rights
        return f"system:serviceaccount:{rights.namespace}:{rights.service_account}"


@dataclass
class Taken:
    """What one way took in one case, a value a round."""

    seconds: list[float] = field(default_factory=list)
    requests: list[Requests] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of each part of a deployment."""
    cpu_seconds: list[float] = field(default_factory=list)
    """Of the agent, or of Flux's controller."""
    peaks: list[Memory] = field(default_factory=list)
    """The most memory that it was seen to use."""
    working_sets: list[int] = field(default_factory=list)
    """The largest working set of its control group, in bytes; empty where it has none."""

    @property
    def counted(self) -> Requests:
        """The requests of the median round."""
        return sorted(self.requests, key=lambda one: one.all)[len(self.requests) // 2]


def measure(workplace: Workplace) -> list[Figure]:
    """Compare with 100 objects."""
    return compare(workplace, Size(applications=25, namespaces=1, rounds=7))


def compare(workplace: Workplace, size: Size) -> list[Figure]:
    """Go through the rounds; the first is not counted."""
    ground = make_ground(workplace, size)
    taken = Comparison(size, _WAYS)
    for number in range(size.rounds + 1):
        # A first round fills caches on all sides: discovery, connections, compiled statements.
        taken.go_round(ground, number, counts=number > 0)
    ground.close()
    return _figures(taken)


def compare_anew(size: Size) -> list[Figure]:
    """
    Go through rounds that have an API server, a relay and an agent of their own each, beside Flux's controller.

    Thousands of objects make an API server slower for whoever comes later; so each round has another way begin, too.
    Caches are filled by an application for each namespace, which is not counted; the environment that has them is
    deleted, as the agent would watch its 20 namespaces beside the others.
    """
    taken = Comparison(size, (*_WAYS, "flux"))
    for number in range(size.rounds):
        with Workplace() as workplace:
            ground = make_ground(workplace, replace(size, rounds=1))
            ground.flux = _start_flux(workplace, ground)
            for counts in (False, True):
                taken.go_round(ground, int(counts), counts=counts, first=number)
                if not counts:
                    _delete_environment(ground, int(counts))
            ground.close()
        say(f"round {number + 1} of {size.rounds}: {taken.last_round}")
    return _figures(taken)


class Comparison:
    """
    What each way takes, in both cases.

    Args:
        size: How much is applied.
        ways: In the order in which they follow each other.
    """

    def __init__(self, size: Size, ways: Sequence[str]) -> None:
        self.size = size
        self.ways = ways
        self.create, self.unchanged = _nothing_taken(), _nothing_taken()

    @property
    def is_beside_flux(self) -> bool:
        """Whether Flux's controller is among the ways."""
        return "flux" in self.ways

    @property
    def last_round(self) -> str:
        """What the newest round has shown."""
        cases = (("created", self.create), ("unchanged", self.unchanged))
        times = [
            f"{case} " + ", ".join(f"{way} {taken[way].seconds[-1]:.1f} s" for way in taken if taken[way].seconds)
            for case, taken in cases
        ]
        most = max(memory.anonymous for _, taken in cases for memory in taken["fairlead"].peaks[-1:])
        return f"{'; '.join(times)}; the agent's anonymous memory {most / MIB:.1f} MiB"

    def go_round(self, ground: Ground, number: int, *, counts: bool, first: int = 0) -> None:
        """
        Create a round's objects in each way, and then apply them again.

        Args:
            ground: Where.
            number: Of the round there.
            counts: Whether to keep what it took.
            first: Which way begins.
        """
        for taken in (self.create, self.unchanged) if counts else (_nothing_taken(), _nothing_taken()):
            for at in range(len(self.ways)):
                way = self.ways[(first + at) % len(self.ways)]
                if way == "fairlead":
                    _fairlead(ground, number, taken[way])
                elif way == "kubectl":
                    apply_with_kubectl(ground, number, taken[way])
                elif way == "flux":
                    _flux(ground, number, taken[way])
                else:
                    _raw(ground, number, taken)
                settle(ground, way, number)


def _nothing_taken() -> dict[str, Taken]:
    return {way: Taken() for way in ("fairlead", "kubectl", "dry-run", "write", "raw wait", "flux")}


def _figures(taken: Comparison) -> list[Figure]:
    create, unchanged, size = taken.create, taken.unchanged, taken.size
    passes = [dry + write for dry, write in zip(create["dry-run"].seconds, create["write"].seconds, strict=True)]
    waited = [both + wait for both, wait in zip(passes, create["raw wait"].seconds, strict=True)]
    counted = {
        (case, way): taken[way].counted
        for case, taken in (("create", create), ("unchanged", unchanged))
        for way in ("fairlead", "kubectl")
    }
    inside = [sum(parts) for parts in zip(*(create["fairlead"].steps[step] for step in _STEPS), strict=True)]
    unwaited = [all_parts - wait for all_parts, wait in zip(inside, create["fairlead"].steps["wait"], strict=True)]
    same_inside = [sum(parts) for parts in zip(*(unchanged["fairlead"].steps[step] for step in _STEPS), strict=True)]
    kubectl, both = "kubectl apply --server-side", f"raw dry-run pass + write pass, {AT_ONCE} at once"
    return [
        _seconds(size, "create, command to command", create["fairlead"].seconds, kubectl, create["kubectl"].seconds,
                 _TARGET_CREATE, note=_parts(create["fairlead"])),
        _seconds(size, "create, the agent's part", unwaited, both, passes, _TARGET_TWO_PASSES,
                 note="fetch, preflight and apply, without command, relay and link"),
        _seconds(size, "create, the agent's part and its wait for health", inside,
                 "the same passes and a watch until the controllers have answered", waited, _TARGET_TWO_PASSES),
        _seconds(size, "unchanged, command to command", unchanged["fairlead"].seconds, kubectl,
                 unchanged["kubectl"].seconds, _TARGET_UNCHANGED_COMMAND, note=_parts(unchanged["fairlead"])),
        _seconds(size, "unchanged, the agent's part", same_inside, f"one raw write pass, {AT_ONCE} at once",
                 unchanged["write"].seconds, _TARGET_UNCHANGED),
        *(_beside_flux(size, create, unchanged) if taken.is_beside_flux else ()),
        *(
            Figure(
                name=f"requests to the API server for each object, {case}",
                value=counted[case, "fairlead"].all / size.objects, unit="requests",
                samples=f"median of {size.rounds}, from the audit log",
                peer=Peer(name=kubectl, value=counted[case, "kubectl"].all / size.objects),
            )
            for case in ("create", "unchanged")
        ),
        *(
            Figure(
                name=f"CPU of the agent for 1,000 objects, {case}", unit="s",
                value=median(by_way["fairlead"].cpu_seconds) * 1000 / size.objects,
                samples=spread(by_way["fairlead"].cpu_seconds),
                peer=Peer(name=FLUX, value=median(by_way["flux"].cpu_seconds) * 1000 / size.objects)
                if taken.is_beside_flux else None,
            )
            for case, by_way in (("create", create), ("unchanged", unchanged))
        ),
        *_memory(*([by_way[way] for by_way in (create, unchanged)] for way in ("fairlead", "flux"))),
        Figure(
            name="writes to the application's objects, unchanged", value=counted["unchanged", "fairlead"].writes,
            unit="writes", samples=f"median of {size.rounds}, from the audit log", target="0",
            is_met=counted["unchanged", "fairlead"].writes == 0,
            peer=Peer(name=kubectl, value=counted["unchanged", "kubectl"].writes),
        ),
    ]  # fmt: skip


def _beside_flux(size: Size, create: dict[str, Taken], unchanged: dict[str, Taken]) -> Iterator[Figure]:
    """Return the seconds of the commands again, beside those of Flux's controller, with its wait for health and not."""
    targets = (("create", create, _TARGET_CREATE_FLUX), ("unchanged", unchanged, _TARGET_UNCHANGED_FLUX))
    for case, taken, target in targets:
        ours, flux = taken["fairlead"], taken["flux"]
        applied = [whole - wait for whole, wait in zip(flux.seconds, flux.steps["wait"], strict=True)]
        yield _seconds(
            size, f"{case}, command to command, beside Flux until it has applied", ours.seconds, f"Flux's {FLUX}",
            applied, target, note=f"Flux, from the source's new revision on: {_parts(flux)}",
        )  # fmt: skip
        yield _seconds(
            size, f"{case}, command to command, beside Flux until all is healthy", ours.seconds, f"Flux's {FLUX}",
            flux.seconds, target, note="both wait for health",
        )  # fmt: skip
        written = [whole - wait for whole, wait in zip(ours.seconds, ours.steps["wait"], strict=True)]
        yield _seconds(
            size, f"{case}, without the wait for health, beside Flux until it has applied", written, f"Flux's {FLUX}",
            applied, target, note="neither waits for health",
        )  # fmt: skip


def _memory(ours: Sequence[Taken], theirs: Sequence[Taken]) -> Iterator[Figure]:
    """Return the most memory that the agent was seen to use, beside Flux's controller where that ran."""
    peaks, others = ([peak for one in taken for peak in one.peaks] for taken in (ours, theirs))
    sets, other_sets = ([size / MIB for one in taken for size in one.working_sets] for taken in (ours, theirs))
    anonymous = [one.anonymous / MIB for one in peaks]
    note = f"resident, files shared with others included: {max(one.resident for one in peaks) / MIB:.1f} MiB"
    if others:
        note += f"; {FLUX}: {max(one.resident for one in others) / MIB:.1f} MiB"
    if not sets:
        note += "; working set: not measured, since memory has no control groups of version 1 here"
    yield Figure(
        name="agent, anonymous memory, the most seen", value=max(anonymous), unit="MiB", samples=spread(anonymous, 1),
        target=f"< {_TARGET_ANONYMOUS:.0f} MiB", is_met=max(anonymous) < _TARGET_ANONYMOUS, note=note,
        peer=Peer(name=FLUX, value=max(one.anonymous for one in others) / MIB) if others else None,
    )  # fmt: skip
    if sets:
        yield Figure(
            name="agent, working set of its control group, the most seen", value=max(sets), unit="MiB",
            samples=spread(sets, 1), target=f"< {_TARGET_WORKING_SET:.0f} MiB", is_met=max(sets) < _TARGET_WORKING_SET,
            peer=Peer(name=FLUX, value=max(other_sets)) if other_sets else None,
            note="the kernel's memory for it included; of files, only what nobody on the machine had read before",
        )  # fmt: skip


def _seconds(
    size: Size, name: str, ours: Sequence[float], peer: str, theirs: Sequence[float], factor: float, note: str = ""
) -> Figure:
    value, other = median(ours), median(theirs)
    return Figure(
        name=f"{size.objects:,} objects, {name}",
        value=value,
        unit="s",
        samples=spread(ours),
        peer=Peer(name=peer, value=other),
        target=f"≤ ×{factor}",
        is_met=value <= factor * other,
        note=note,
    )


def _parts(taken: Taken) -> str:
    told = ", ".join(f"{name} {median(seconds):.2f}" for name, seconds in taken.steps.items())
    return f"median seconds of its parts: {told}"


def _fairlead(ground: Ground, number: int, taken: Taken) -> None:
    file = ground.file("fairlead", number)
    argv = [_program("fairlead"), "deploy", "-f", str(file), "--env", f"shop/round-{number}", "--watch", "-o", "json"]
    process = ground.installation.agent.process
    assert process is not None
    with _observed(process, ground.memory_group, taken):
        window, output = _timed(argv, ground, ground.agent_user, "fairlead", number)
    taken.requests.append(count_requests(ground.cluster, window))
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


def _delete_environment(ground: Ground, number: int) -> None:
    installation = ground.installation
    environment = f"{installation.path}/applications/shop/environments/round-{number}"
    plan = installation.api.ask("GET", f"{environment}/deletion")
    job = installation.api.ask("DELETE", environment, {"confirmation": plan["confirmation"]}, 202)
    ended = installation.until_final(job["deployment_id"])
    if ended["state"] != JobState.SUCCEEDED:
        raise OSError(f"the warm-up's environment could not be deleted: {ended}")


def apply_with_kubectl(ground: Ground, number: int, taken: Taken) -> None:
    """Apply the objects of a round as their administrator would."""
    inside = ["nsenter", f"--net={ground.cluster.netns}", "--", str(binary("kubectl"))]
    file = ground.file("kubectl", number)
    argv = [*inside, f"--kubeconfig={ground.cluster.kubeconfig}", "apply", "--server-side", f"--filename={file}"]
    window, _ = _timed(argv, ground, _ADMIN, "kubectl", number)
    taken.requests.append(count_requests(ground.cluster, window))
    taken.seconds.append(window.ended - window.began)


def _flux(ground: Ground, number: int, taken: Taken) -> None:
    flux, name = ground.flux, f"round-{number}"
    assert flux is not None
    flux.offer(name, ground.manifests("flux", number))
    with _observed(flux.process, flux.memory_group, taken):
        reconciled = flux.reconcile(name)
    taken.seconds.append(reconciled.healthy)
    taken.steps.setdefault("fetch and build", []).append(reconciled.built)
    taken.steps.setdefault("apply", []).append(reconciled.applied - reconciled.built)
    taken.steps.setdefault("wait", []).append(reconciled.healthy - reconciled.applied)


def _raw(ground: Ground, number: int, taken: dict[str, Taken]) -> None:
    manifests = ground.manifests("raw", number)
    for way, dry_run in (("dry-run", True), ("write", False)):
        taken[way].seconds.append(apply_raw(ground.cluster, ground.token, manifests, dry_run=dry_run))
    taken["raw wait"].seconds.append(wait_raw(ground.cluster, ground.token, manifests))


@contextmanager
def _observed(process: Process, group: Path | None, taken: Taken) -> Iterator[None]:
    """Look at what a process uses meanwhile, and its control group if it has one."""
    spent, peaks, over = cpu_seconds_of(process.pid), [memory_of(process.pid)], threading.Event()
    sets = [] if group is None else [working_set_of(group)]

    def look() -> None:
        while not over.wait(_LOOK_SECONDS):
            peaks.append(memory_of(process.pid))
            if group is not None:
                sets.append(working_set_of(group))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()
    taken.cpu_seconds.append(cpu_seconds_of(process.pid) - spent)
    taken.peaks.append(max(peaks, key=lambda one: one.anonymous))
    taken.working_sets += [max(sets)] if sets else []


def _timed(argv: Sequence[str], ground: Ground, user: str, way: str, number: int) -> tuple[Window, str]:
    """Run a command; clocks of one machine, so that the audit log's times can be compared with these."""
    began = time.time()
    finished = subprocess.run(
        argv, env=_variables(ground.home), capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
    )
    ended = time.time()
    if finished.returncode:
        raise OSError(f"`{' '.join(argv)}` exited {finished.returncode}: {finished.stderr[-2000:]}")
    namespaces = frozenset(namespaces_of(ground.size, way, number))
    return Window(user=user, namespaces=namespaces, began=began, ended=ended), finished.stdout


def namespaces_of(size: Size, way: str, number: int) -> list[str]:
    """Return where the objects of a round are."""
    return [f"bench-{way}-{number}-{part}" for part in range(size.namespaces)]


def settle(ground: Ground, way: str, number: int) -> None:
    """Wait until the controllers have answered everything, so that they do not disturb the next measurement."""
    for namespace in namespaces_of(ground.size, way, number):

        def answered(look: tuple[str, ...] = ("get", "deployments", f"--namespace={namespace}", "-o", "json")) -> bool:
            found = json.loads(ground.cluster.kubectl(*look).stdout)["items"]
            return all("observedGeneration" in one["status"] for one in found)

        wait_until(answered, f"the controllers to answer everything in {namespace}", 300)


def make_ground(workplace: Workplace, size: Size) -> Ground:
    """Start a relay and an agent that may write to each round's namespaces; application `shop` has a `round-N` each."""
    relay = workplace.relay(for_cluster=True)
    cluster = workplace.control_plane
    installation = make_installation(relay, cluster, workplace.folder("agent"))
    workplace.at_end().callback(installation.close)
    rounds = range(size.rounds + 1)
    _bind(installation, [name for number in rounds for name in namespaces_of(size, "fairlead", number)])
    for number in rounds:
        body = {
            "name": f"round-{number}",
            "type": "staging",
            "cluster": "blue",
            "namespace": namespaces_of(size, "fairlead", number)[0],
        }
        installation.api.ask("POST", f"{installation.path}/applications/shop/environments", body, 201)
        for name in (*namespaces_of(size, "kubectl", number), *namespaces_of(size, "raw", number)):
            cluster.kubectl("create", "namespace", name)
    cluster.kubectl("create", "serviceaccount", "raw")
    cluster.kubectl(
        "create", "clusterrolebinding", "raw", "--clusterrole=cluster-admin", "--serviceaccount=default:raw"
    )
    home = workplace.folder("home")
    memory_group = cluster.memory_group(installation.agent.rights.namespace)
    installation.agent.program = tuple(joining(memory_group, [sys.executable, "-OO", "-c", _AS_IN_ITS_IMAGE]))
    ground = Ground(size, installation, home, cluster.token("default", "raw", hours=_TOKEN_HOURS), memory_group)
    login = [_program("fairlead"), "login", relay.api_url, "--ca-file", str(relay.ca_file)]
    token = relay.token("deployer", installation.organization, f"{_TOKEN_HOURS}h")
    subprocess.run(login, input=token, text=True, env=_variables(home), capture_output=True, check=True, timeout=60)
    installation.agent.start()
    installation.until_agent("connected")
    return ground


def _start_flux(workplace: Workplace, ground: Ground) -> KustomizeController:
    """Start Flux's controller, and make its namespaces."""
    flux = KustomizeController.start(ground.cluster, workplace.folder("flux"))
    workplace.at_end().callback(flux.stop)
    for number in range(ground.size.rounds + 1):
        for name in namespaces_of(ground.size, "flux", number):
            ground.cluster.kubectl("create", "namespace", name)
    return flux


def _bind(installation: Installation, namespaces: Sequence[str]) -> None:
    """Give the agent its chart's rights in further namespaces, as an operator who changed the values would."""
    environments = [{"organization": installation.organization, "application": "shop", "environment": "*", "type": "*"}]
    bindings = [{"namespace": name, "environments": environments} for name in namespaces]
    own = installation.agent.rights.namespace
    applied = apply_chart_rights(installation.cluster, {"policy": {"bindings": bindings}}, namespace=own)
    applied.write_policy(installation.agent.policy_file)


def _workload(name: str) -> dict[str, Any]:
    volumes = [{"name": "settings", "configMap": {"name": name}}]
    return deployment(name, serviceAccountName=name, volumes=volumes)


def _settings(name: str) -> dict[str, Any]:
    return config_map(name, colour="blue")


def _account(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def _variables(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "FAIRLEAD_CONFIG": str(home / "config.yaml")}


def _program(name: str) -> str:
    return f"{sys.prefix}/bin/{name}"
