"""What goes wrong between agent, relay and API server: one clear error each, nothing lost, nothing half-done."""

import base64
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fairlead_shared.jobs import JobState
from fairlead_shared.sealing import SealContext, seal
from tests.cluster.cluster import Cluster
from tests.e2e.conftest import Install
from tests.e2e.installation import AgentProcess, Installation
from tests.polling import PATIENCE_SECONDS, wait_until


def sealed_secret(place: Installation, name: str, key: X25519PublicKey, **values: bytes) -> dict[str, Any]:
    """Return a Secret of a bundle, sealed to a key for the environment it is deployed to."""
    context = SealContext(place.organization, "shop", "staging", place.namespace, name)
    sealed = seal(values, context, [key]).model_dump(mode="json")
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "sealedData": sealed}


def sealing_key(place: Installation) -> X25519PublicKey:
    """Return the agent's sealing key as the API shows it to clients."""
    shown = place.api.ask("GET", place.environment)["sealing_key"]
    return X25519PublicKey.from_public_bytes(base64.b64decode(shown["public_key"]))


def until_logged(agent: AgentProcess, pattern: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for a line in the agent's log."""
    wait_until(lambda: re.search(pattern, agent.log), f"{pattern!r} in the log", seconds)


def test_sealed_secret_opens_in_the_cluster_and_nowhere_else(installation: Installation) -> None:
    """Values arrive in the Secret; relay, story, logs and the agent's own disk never hold them."""
    value = b"correct-horse-battery-staple"
    secret = sealed_secret(installation, "database", sealing_key(installation), password=value)
    shown = installation.succeed([secret])
    assert base64.b64decode(installation.live("secret", "database")["data"]["password"]) == value
    places = [installation.agent.log, installation.relay.log.read_text(), json.dumps(installation.records(shown["id"]))]
    for folder in (installation.relay.data_dir, installation.agent.spool):
        places += [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
    for form in (value.decode(), base64.b64encode(value).decode()):
        assert not any(form in text for text in places)


def test_secret_sealed_to_another_key_fails_before_any_write(installation: Installation) -> None:
    """The finding says that the seal does not fit; the ConfigMap beside it is not written."""
    stranger = X25519PrivateKey.generate().public_key()
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "beside"}}
    deployment_id = installation.deploy([config, sealed_secret(installation, "database", stranger, password=b"x")])
    shown = installation.until_final(deployment_id)
    assert (shown["state"], shown["code"]) == (JobState.FAILED, "seal")
    assert installation.names("configmap") == set()


def test_unknown_kind_and_invalid_object_are_both_told(installation: Installation) -> None:
    """Every finding of the preflight is reported, and nothing is written."""
    good = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "good"}}
    unknown = {"apiVersion": "v1", "kind": "Boat", "metadata": {"name": "boat"}}
    invalid = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 700_000}]},
    }
    deployment_id = installation.deploy([good, unknown, invalid])
    assert installation.until_final(deployment_id)["state"] == JobState.FAILED
    findings = [record["event"] for record in installation.records(deployment_id) if "severity" in record["event"]]
    assert {finding["code"] for finding in findings} >= {"unknown_kind", "invalid_object"}
    assert installation.names("configmap") == set()


def test_expired_or_malformed_token_is_one_sentence(install: Install) -> None:
    """A token that is none ends the agent with code 4, and with nothing made but its keys."""
    place = install()
    place.agent.token_file.write_text("flt_wrong-kind-of-token")
    place.agent.start()
    assert place.agent.process is not None
    assert place.agent.process.wait(PATIENCE_SECONDS) == 4
    assert "enrolment token is not valid" in place.agent.log
    assert "wrong-kind" not in place.agent.log


def test_unreachable_relay_is_named_by_hop_and_never_ends_the_agent(install: Install, control_plane: Cluster) -> None:
    """A firewalled port shows as TCP, a relay that is another's as TLS, and the agent runs on until it can connect."""
    place = install()
    right = place.agent.relay_url
    place.agent.relay_url = f"wss://{control_plane.outside_address}:9"
    place.agent.start()
    until_logged(place.agent, f"TCP: {re.escape(control_plane.outside_address)}:9")
    assert place.agent.is_running
    place.agent.stop()
    place.agent.relay_url = right
    place.agent.start()
    place.until_agent("connected")


def test_api_server_that_is_away_is_waited_for(install: Install, control_plane: Cluster) -> None:
    """An agent that starts before its API server says so and goes on by itself."""
    place = install()
    place.agent.start(KUBERNETES_SERVICE_PORT="6")
    until_logged(place.agent, "the API server https://.*:6 cannot be reached", 120)
    assert place.agent.is_running


def test_agent_without_rights_in_its_own_namespace_names_the_rule(install: Install, control_plane: Cluster) -> None:
    """A missing right at the start ends the process with the rule that it needs."""
    place = install()
    rights = place.agent.rights
    control_plane.kubectl("delete", "rolebinding", rights.service_account, "-n", rights.namespace)
    place.agent.start()
    assert place.agent.process is not None
    assert place.agent.process.wait(PATIENCE_SECONDS) == 1
    assert 'resources: ["leases"]' in place.agent.log, "to lead is the first thing it needs a right for"


def test_keys_command_shows_what_the_relay_shows(installation: Installation) -> None:
    """The operator compares the fingerprint printed in the cluster with the one clients pin."""
    agent = replace(installation.agent, process=None)
    shown = installation.api.ask("GET", installation.environment)["sealing_key"]
    printed = agent.run("keys")
    assert shown["fingerprint"] in printed
    assert f"{installation.organization}/blue/default" in printed


@pytest.mark.parametrize("signal", ["stop", "kill"])
def test_second_start_needs_no_token(installation: Installation, signal: str) -> None:
    """The identity lives in the cluster: a new pod without the token connects as the same agent."""
    fingerprint = installation.api.ask("GET", installation.environment)["sealing_key"]["fingerprint"]
    getattr(installation.agent, signal)()
    installation.until_agent("offline")
    installation.agent.token_file.unlink()
    installation.agent.lose_spool()
    installation.agent.start()
    installation.until_agent("connected")
    assert installation.api.ask("GET", installation.environment)["sealing_key"]["fingerprint"] == fingerprint
