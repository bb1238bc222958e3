"""
A place in which the deploy engine runs for real: namespaces, a ServiceAccount with exact Roles, and its engine.

The administrator's kubectl makes and inspects; the engine itself only ever has the rights granted here.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead_agent.apply.engine import DeployEngine
from fairlead_agent.apply.inventory import Inventory, InventoryStore
from fairlead_agent.kube.access import ClusterAccess
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.shared_watches import SharedWatches
from fairlead_agent.kube.state import StateObjects
from fairlead_agent.policy import Policy
from fairlead_agent.ports import DeployPlan, DeployResult, DeployWork, Ended, EnvironmentKey
from fairlead_shared.bundle import make_bundle
from fairlead_shared.progress import ProgressEvent, ResultEvent
from fairlead_shared.statement import Consent, DeploymentStatement, Strategy
from tests.cluster.access import socket_factory
from tests.cluster.cluster import Cluster

READ = ["get", "list", "watch"]
WRITE = ["get", "list", "watch", "create", "patch", "delete"]
APPLICATION_RULES: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["configmaps", "secrets", "services", "serviceaccounts"], "verbs": WRITE},
    {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": WRITE},
    {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": WRITE},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": WRITE},
    {"apiGroups": [""], "resources": ["pods", "events"], "verbs": READ},
    {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": READ},
]
"""What the engine needs in a namespace for ordinary applications."""
STATE_RULES: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "create", "update", "delete"]}
]
"""What the inventory needs in the agent's own namespace."""


@dataclass(slots=True)
class Checkpoint:
    """A job's checkpoint in memory; it outlives a killed engine as the real one in the cluster does."""

    plan: DeployPlan | None = None

    async def save_plan(self, plan: DeployPlan) -> None:
        """Keep the plan, through its wire form."""
        self.plan = DeployPlan.model_validate_json(plan.model_dump_json())

    async def load_plan(self) -> DeployPlan | None:
        """Return the plan kept."""
        return self.plan

    def ending(self, result: DeployResult) -> Ended:
        """Return what the mark of the first attempt is to hold."""
        return Ended(1, ResultEvent(key="result", at=0, outcome=result.outcome, counts=result.counts))


@dataclass(slots=True)
class Story:
    """The events of a job, the first of each key as the relay keeps them."""

    events: dict[str, ProgressEvent] = field(default_factory=dict)

    async def report(self, event: ProgressEvent) -> None:
        """Take an event."""
        self.events.setdefault(event.key, event)

    def of(self, kind: str) -> list[Any]:
        """Return the events of one type, in order."""
        return [event for event in self.events.values() if event.type == kind]

    def actions(self) -> dict[str, str]:
        """Map object to what became of it, or would."""
        return {str(event.object): str(event.action) for event in (*self.of("object"), *self.of("planned"))}

    def fields(self) -> dict[str, tuple[str | None, str | None]]:
        """Map `object pointer` to what a plan says it is and would be."""
        return {
            f"{event.object} {one.pointer}": (one.before, one.after)
            for event in self.of("planned")
            for one in event.fields
        }


@dataclass(slots=True)
class World:
    """One application's namespaces, and an engine that may write there."""

    cluster: Cluster
    namespace: str
    agent_namespace: str
    client: KubeClient
    watches: SharedWatches
    environment: EnvironmentKey
    directory: Path
    policy: Policy = field(default_factory=Policy)
    consents: tuple[Consent, ...] = ()
    previous_bundle_sha256: str | None = None
    """What deployments say was there before them."""

    def work(
        self,
        manifests: Iterable[Mapping[str, Any]],
        *,
        wait_seconds: float = 20.0,
        namespaces: Sequence[str] = (),
        strategy: Strategy = Strategy.ALL_AT_ONCE,
    ) -> DeployWork:
        """Make the work of one deployment of some manifests."""
        bundle = make_bundle([in_namespace(manifest, self.namespace) for manifest in manifests])
        now = int(time.time())
        statement = DeploymentStatement(
            deployment_id=f"{time.time_ns():x}{secrets.token_hex(4)}",
            organization=self.environment.organization,
            application=self.environment.application,
            environment=self.environment.environment,
            environment_type="staging",
            cluster="private",
            namespaces=tuple(namespaces or (self.namespace,)),
            bundle_sha256=bundle.sha256,
            previous_bundle_sha256=self.previous_bundle_sha256,
            strategy=strategy,
            not_before=now,
            expires=now + 600,
            rollback=False,
            consents=self.consents,
        )
        return DeployWork(statement, bundle, self.policy, _unseal, wait_seconds)

    @property
    def inventory(self) -> InventoryStore:
        """The engine's inventory."""
        return InventoryStore(StateObjects(self.client, self.agent_namespace))

    def engine(self, client: KubeClient | None = None, inventory: InventoryStore | None = None) -> DeployEngine:
        """Return a fresh engine, as after a restart; on another client, or a store that others use, if one is given."""
        used = client or self.client
        store = inventory or InventoryStore(StateObjects(used, self.agent_namespace))
        return DeployEngine(used, store, time.time, self.watches, failure_grace_seconds=3.0)

    async def deploy(
        self, manifests: Iterable[Mapping[str, Any]], *, wait_seconds: float = 20.0, namespaces: Sequence[str] = ()
    ) -> tuple[DeployResult, Story]:
        """Run one deployment undisturbed."""
        story = Story()
        work = self.work(manifests, wait_seconds=wait_seconds, namespaces=namespaces)
        return await self.engine().run(work, story.report, Checkpoint()), story

    async def destroy(
        self, *, wait_seconds: float = 20.0, namespaces: Sequence[str] = (), strategy: Strategy = Strategy.DESTROY
    ) -> tuple[DeployResult, Story]:
        """Leave nothing of the environment, undisturbed."""
        story = Story()
        work = self.work([], wait_seconds=wait_seconds, namespaces=namespaces, strategy=strategy)
        return await self.engine().run(work, story.report, Checkpoint()), story

    async def plan(
        self, manifests: Iterable[Mapping[str, Any]], *, namespaces: Sequence[str] = ()
    ) -> tuple[DeployResult, Story]:
        """Plan one deployment."""
        story = Story()
        work = self.work(manifests, namespaces=namespaces)
        return await self.engine().plan(work, story.report), story

    async def owned(self) -> Inventory:
        """Return the environment's inventory."""
        return await self.inventory.load(self.environment)

    async def live(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        """Return a live object as the administrator sees it; empty if there is none."""
        where = ("-n", namespace or self.namespace)
        found = await self.kubectl(
            "get", kind, name, *where, "-o", "json", "--show-managed-fields", "--ignore-not-found"
        )
        return json.loads(found) if found.strip() else {}

    async def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator."""
        finished = await asyncio.to_thread(self.cluster.kubectl, *args, input=stdin)
        return finished.stdout

    async def create(self, *manifests: Mapping[str, Any]) -> None:
        """Create objects as administrator."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        await self.kubectl("create", "-f", "-", stdin=text)

    def writes(self, namespace: str = "") -> list[tuple[str, str, str]]:
        """
        Return (verb, resource, name) of each write of the engine that the audit log shows, dry-runs left out.

        The log may come a moment after the answer: poll for what must be there before saying what is not.
        """
        user = f"system:serviceaccount:{self.agent_namespace}:agent"
        found = []
        for line in self.cluster.audit_log.read_text().splitlines():
            event = json.loads(line)
            target = event.get("objectRef") or {}
            if (
                event["user"]["username"] == user
                and event["verb"] in {"create", "update", "patch", "delete"}
                and "dryRun" not in event["requestURI"]
                and target.get("namespace") == (namespace or self.namespace)
            ):
                found.append((event["verb"], target.get("resource", ""), target.get("name", "")))
        return found


@asynccontextmanager
async def world(
    cluster: Cluster,
    directory: Path,
    *,
    rules: Sequence[Mapping[str, Any]] = APPLICATION_RULES,
    cluster_rules: Sequence[Mapping[str, Any]] = (),
    own_rules: Sequence[Mapping[str, Any]] = STATE_RULES,
    client_type: type[KubeClient] = KubeClient,
) -> AsyncIterator[World]:
    """
    Make a world with fresh namespaces, and take it away again.

    Args:
        cluster: Where.
        directory: For the token, readable by nobody else.
        rules: What the agent may do in the application's namespace.
        cluster_rules: What it may do in the whole cluster.
        own_rules: What it may do in its own namespace.
        client_type: Client to use; tests of crashes take one that fails.
    """
    suffix = secrets.token_hex(4)
    namespace, agent_namespace = f"shop-{suffix}", f"agent-{suffix}"
    text = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": _grants(namespace, agent_namespace, rules, cluster_rules, own_rules),
        }
    )
    await asyncio.to_thread(cluster.kubectl, "create", "-f", "-", input=text)
    directory.mkdir(parents=True, exist_ok=True)
    token = directory / "token"
    token.touch(mode=0o600)
    token.write_text(await asyncio.to_thread(cluster.token, agent_namespace, "agent"))
    access = ClusterAccess(cluster.server, cluster.ca_file, token)
    environment = EnvironmentKey("acme", f"shop-{suffix}", "staging")
    try:
        async with (
            client_type(access, socket_factory=socket_factory(cluster.netns)) as client,
            SharedWatches(client) as watches,
        ):
            yield World(cluster, namespace, agent_namespace, client, watches, environment, directory)
    finally:
        gone = (namespace, agent_namespace)
        await asyncio.to_thread(cluster.kubectl, "delete", "namespace", *gone, "--wait=false", "--ignore-not-found")
        await asyncio.to_thread(
            cluster.kubectl, "delete", "clusterrolebindings,clusterroles", "-l", f"world={agent_namespace}"
        )


def in_namespace(manifest: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """Return a manifest in a namespace, unless it has one or says by `None` that it wants none."""
    metadata = dict(manifest["metadata"])
    if metadata.get("namespace", "") is None:
        del metadata["namespace"]
    else:
        metadata.setdefault("namespace", namespace)
    return {**manifest, "metadata": metadata}


def _unseal(sealed: Mapping[str, Any], namespace: str, name: str) -> dict[str, bytes]:
    """Open what these tests seal: the engine only carries it, the sealing itself has tests of its own."""
    return {key: value.encode() for key, value in sealed.items()}


def _grants(
    namespace: str,
    agent_namespace: str,
    rules: Sequence[Mapping[str, Any]],
    cluster_rules: Sequence[Mapping[str, Any]],
    own_rules: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    subjects = [{"kind": "ServiceAccount", "name": "agent", "namespace": agent_namespace}]
    made: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": agent_namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent", "namespace": agent_namespace}},
    ]
    roles = [("Role", namespace, rules), ("Role", agent_namespace, own_rules)]
    if cluster_rules:
        roles.append(("ClusterRole", "", cluster_rules))
    for kind, where, granted in roles:
        metadata: dict[str, Any] = {"name": agent_namespace, "labels": {"world": agent_namespace}}
        if where:
            metadata["namespace"] = where
        api = "rbac.authorization.k8s.io"
        made.append({"apiVersion": f"{api}/v1", "kind": kind, "metadata": metadata, "rules": list(granted)})
        made.append(
            {
                "apiVersion": f"{api}/v1",
                "kind": f"{kind}Binding",
                "metadata": metadata,
                "roleRef": {"apiGroup": api, "kind": kind, "name": agent_namespace},
                "subjects": subjects,
            }
        )
    return made


def config_map(name: str, **values: str) -> dict[str, Any]:
    """Return a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": values}


def secret(name: str, **values: str) -> dict[str, Any]:
    """Return a sealed Secret as these tests seal it."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "sealedData": values}


def deployment(name: str, *, replicas: int = 0, image: str = "pause", **pod: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a Deployment with one container; `pod` adds to the pod's spec."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": image}], **pod},
            },
        },
    }


def service(name: str) -> dict[str, Any]:
    """Return a Service of the pods of a Deployment."""
    ports = [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]
    metadata = {"name": name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": {"app": name}, "ports": ports},
    }


def application() -> list[dict[str, Any]]:
    """Return a small application: what it is made of does not matter, that it has several kinds and references does."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}
    volumes = [{"name": "settings", "configMap": {"name": "settings"}}]
    return [
        deployment("web", serviceAccountName="web", volumes=volumes),
        service("web"),
        config_map("settings", colour="blue"),
        secret("database", password="hunter2"),
        account,
    ]
