"""
A whole Fairlead in place: a relay process, and an agent process inside a cluster's namespaces with its chart's rights.

One installation is one organization with one cluster, application and environment; many share a relay and a cluster,
each in namespaces of its own. Everything is the installed command with nothing replaced; tests act through the API
and look with the administrator's kubectl.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fairlead_cli.deployment_ids import new_deployment_id
from fairlead_shared.bundle import Bundle, make_bundle
from fairlead_shared.jobs import FINAL_STATES, JobState
from tests.cluster.cluster import Cluster
from tests.cluster.process import Process
from tests.e2e.chart_rights import ChartRights, apply_chart_rights
from tests.integration.relay_process import Api, RelayProcess
from tests.polling import PATIENCE_SECONDS, wait_until

_numbers = itertools.count(1)
_TOKEN_HOURS = 8
"""How long tokens are valid: longer than the longest benchmark."""
Record = dict[str, Any]


@dataclass
class AgentProcess:
    """An agent in the cluster's network namespace, known to the API server by its ServiceAccount's token."""

    cluster: Cluster
    directory: Path
    """Its own: token, policy, ServiceAccount, spool. Outlives the process, as an emptyDir outlives a container."""
    relay_url: str
    rights: ChartRights
    process: Process | None = None
    lives: int = 0
    suffix: str = ""
    """Sets the logs of several replicas apart."""
    program: tuple[str, ...] = (sys.executable, "-m", "fairlead_agent")
    """The installed command, or what a test wraps it with."""

    @property
    def log(self) -> str:
        """Everything it wrote, over all its lives."""
        return "".join(path.read_text() for path in sorted(self._logs.glob(f"{self._name}-[0-9][0-9][0-9].log")))

    @property
    def token_file(self) -> Path:
        """File of the enrolment token."""
        return self.directory / "enrolment" / "token"

    @property
    def policy_file(self) -> Path:
        """The operator's rules; a changed file holds for the next job."""
        return self.directory / "policy.yaml"

    @property
    def spool(self) -> Path:
        """Journals and bundles."""
        return self.directory / "spool"

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.process is not None and self.process.running

    def write_files(self, enrolment_token: str) -> None:
        """Write what the kubelet would mount."""
        self.token_file.parent.mkdir(parents=True, exist_ok=True)
        self.token_file.write_text(enrolment_token)
        self.rights.write_policy(self.policy_file)
        account = self.directory / "account"
        account.mkdir(exist_ok=True)
        (account / "ca.crt").write_bytes(self.cluster.ca_file.read_bytes())
        (account / "namespace").write_text(self.rights.namespace)
        token = account / "token"
        token.write_text(self.cluster.token(self.rights.namespace, self.rights.service_account, hours=_TOKEN_HOURS))
        token.chmod(0o600)

    def start(self, **variables: str) -> AgentProcess:
        """Start it; further FAIRLEAD_… variables override."""
        self.lives += 1
        argv = [*self.program, "run"]
        environment = {**self.variables, **variables}
        self.process = self.cluster.spawn(f"{self._name}-{self.lives:03d}", argv, env=environment)
        return self

    @property
    def variables(self) -> dict[str, str]:
        """What its pod's specification would set."""
        return {
            **self._pod_variables,
            "FAIRLEAD_RELAY_URL": self.relay_url,
            "FAIRLEAD_ENROLMENT_TOKEN_FILE": str(self.token_file),
            "FAIRLEAD_POLICY_FILE": str(self.policy_file),
            "FAIRLEAD_SPOOL_DIR": str(self.spool),
            "FAIRLEAD_TOKEN_HOLD_SECONDS": "0",
        }

    def kill(self) -> None:
        """SIGKILL it."""
        if self.process is not None:
            self.process.kill()

    def stop(self) -> int:
        """SIGTERM it; returns its exit code."""
        return 0 if self.process is None else self.process.terminate(20)

    def lose_spool(self) -> None:
        """Delete journals and bundles, as the loss of its node would."""
        for path in self.spool.rglob("*"):
            if path.is_file():
                path.unlink()

    def run(self, *arguments: str) -> str:
        """Run another command of the agent, as `kubectl exec` in its pod would, and return what it printed."""
        variables = [f"{name}={value}" for name, value in self._pod_variables.items()]
        return self.cluster.run(["env", *variables, sys.executable, "-m", "fairlead_agent", *arguments])

    @property
    def _pod_variables(self) -> dict[str, str]:
        server = urlsplit(self.cluster.server)
        return {
            "KUBERNETES_SERVICE_HOST": server.hostname or "",
            "KUBERNETES_SERVICE_PORT": str(server.port),
            "FAIRLEAD_SERVICE_ACCOUNT_DIR": str(self.directory / "account"),
        }

    @property
    def _name(self) -> str:
        return f"agent-{self.rights.namespace}{self.suffix}"

    @property
    def _logs(self) -> Path:
        return self.cluster.directory / "log"


@dataclass
class Installation:
    """One organization: its relay, its agent and what to call them with."""

    relay: RelayProcess
    cluster: Cluster
    agent: AgentProcess
    api: Api
    organization: str
    namespace: str
    """The application's, bound to environment shop/staging."""
    seen: dict[str, Record] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The organization in the API."""
        return f"/v1/organizations/{self.organization}"

    @property
    def environment(self) -> str:
        """The environment in the API."""
        return f"{self.path}/applications/shop/environments/staging"

    # Through the API.

    def deploy(self, manifests: Iterable[Mapping[str, Any]], **options: Any) -> str:  # noqa: ANN401  (JSON)
        """Deploy manifests into the application's namespace; returns the deployment's id at once."""
        bundle = self.upload(manifests)
        body = {"deployment_id": new_deployment_id(), "bundle_sha256": bundle.sha256, **options}
        made = self.api.ask("POST", f"{self.environment}/deployments", body, 202)
        return str(made["id"])

    def upload(self, manifests: Iterable[Mapping[str, Any]]) -> Bundle:
        """Make a bundle of manifests and give it to the relay; a namespace is filled in where it is missing."""
        bundle = make_bundle(self._placed(manifest) for manifest in manifests)
        answer = self.api.put(f"{self.path}/bundles/{bundle.sha256}", content=bundle.content)
        assert answer.status_code in (200, 201), answer.text
        return bundle

    def deployment(self, deployment_id: str) -> Record:
        """Return a deployment as the API shows it."""
        shown = self.api.ask("GET", f"{self.path}/deployments/{deployment_id}")
        assert isinstance(shown, dict)
        return shown

    def until_final(self, deployment_id: str, seconds: float = PATIENCE_SECONDS) -> Record:
        """Wait for a deployment's end and return it."""
        return self.until_state(deployment_id, *FINAL_STATES, seconds=seconds)

    def until_state(self, deployment_id: str, *states: JobState, seconds: float = PATIENCE_SECONDS) -> Record:
        """Wait for a deployment to reach one of some states."""

        def reached() -> Record | None:
            shown = self.seen[deployment_id] = self.deployment(deployment_id)
            return shown if shown["state"] in states else None

        try:
            found = wait_until(reached, f"deployment {deployment_id} to be {' or '.join(states)}", seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.seen[deployment_id]}\nagent:\n{self.agent.log[-4000:]}") from None
        assert found is not None
        return found

    def succeed(
        self,
        manifests: Iterable[Mapping[str, Any]],
        seconds: float = PATIENCE_SECONDS,
        **options: Any,  # noqa: ANN401  (JSON)
    ) -> Record:
        """Deploy, wait, and hold that it succeeded."""
        shown = self.until_final(self.deploy(manifests, **options), seconds)
        assert shown["state"] == JobState.SUCCEEDED, f"{shown}\nagent:\n{self.agent.log[-4000:]}"
        return shown

    def records(self, deployment_id: str) -> list[Record]:
        """Return what is stored of a deployment's story, oldest first."""
        url = f"{self.path}/deployments/{deployment_id}/events"
        answer = self.api.get(url, params={"follow": "false"}, headers={"Accept": "application/x-ndjson"})
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines() if line]

    def story(self, deployment_id: str) -> list[str]:
        """Return the keys of the agent's events of a deployment, oldest first."""
        return [record["event"]["key"] for record in self.records(deployment_id) if "key" in record["event"]]

    def until_agent(self, state: str, seconds: float = PATIENCE_SECONDS) -> Record:
        """Wait for the cluster to be `connected` or `offline`."""

        def reached() -> Record | None:
            shown = self.api.ask("GET", f"{self.path}/clusters/blue")
            return shown if shown["state"] == state else None

        try:
            found = wait_until(reached, f"the agent to be {state}", seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\nagent:\n{self.agent.log[-4000:]}") from None
        assert found is not None
        return found

    # In the cluster, as its administrator.

    def live(self, kind: str, name: str) -> Record:
        """Return an object of the application's namespace."""
        return dict(json.loads(self.cluster.kubectl("get", kind, name, "-n", self.namespace, "-o", "json").stdout))

    def names(self, kind: str) -> set[str]:
        """Return the names of the application's objects of a kind, without what Kubernetes makes itself."""
        found = self.cluster.kubectl("get", kind, "-n", self.namespace, "-o", "name").stdout.split()
        return {name.partition("/")[2] for name in found} - {"kube-root-ca.crt"}

    def versions(self, kind: str) -> dict[str, str]:
        """Map the application's objects of a kind to their resourceVersions."""
        items = json.loads(self.cluster.kubectl("get", kind, "-n", self.namespace, "-o", "json").stdout)["items"]
        return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}

    def until_no_checkpoint(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until no job's checkpoint is left in the agent's namespace."""

        def gone() -> bool:
            namespace = self.agent.rights.namespace
            return not self.cluster.kubectl(
                "get", "configmap", "-n", namespace, "-l", "fairlead.dev/state=job", "-o", "name"
            ).stdout

        wait_until(gone, "checkpoints to be deleted", seconds)

    def close(self) -> None:
        """End the agent; what it made goes with the cluster."""
        self.agent.kill()

    def _placed(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {"namespace": self.namespace, **manifest["metadata"]}
        return {**manifest, "metadata": metadata}


def make_installation(
    relay: RelayProcess, cluster: Cluster, directory: Path, *, rights: Mapping[str, Any] | None = None
) -> Installation:
    """
    Make an organization with cluster `blue` and environment shop/staging, and its agent, not yet started.

    Args:
        relay: Running; the cluster may dial it.
        cluster: Where the agent lives.
        directory: For the agent's files.
        rights: Values of the agent's chart that replace those made here, e.g. {"rights": [...]}.
    """
    number = next(_numbers)
    organization = f"org-{os.getpid()}-{number}-{int(time.time())}"
    namespace, own = f"shop-{number}", f"fairlead-{number}"
    environments = [
        {"organization": organization, "application": "shop", "environment": "staging", "type": "staging"},
    ]
    values = {"policy": {"bindings": [{"namespace": namespace, "environments": environments}]}, **(rights or {})}
    applied = apply_chart_rights(cluster, values, namespace=own)
    api = relay.client(relay.token("admin", organization, f"{_TOKEN_HOURS}h"))
    path = f"/v1/organizations/{organization}"
    made = api.ask("POST", f"{path}/clusters", {"name": "blue"}, 201)
    api.ask("POST", f"{path}/applications", {"name": "shop"}, 201)
    body = {"name": "staging", "type": "staging", "cluster": "blue", "namespace": namespace}
    api.ask("POST", f"{path}/applications/shop/environments", body, 201)
    relay_url = f"wss://{cluster.outside_address}:{relay.agent_port}"
    agent = AgentProcess(cluster, directory, relay_url, applied)
    agent.write_files(made["enrolment"]["token"])
    return Installation(relay, cluster, agent, api, organization, namespace)
