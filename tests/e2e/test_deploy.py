"""The whole path on a real API server: API, relay, agent inside the cluster, objects, and the story told live."""

import json
from typing import Any

from fairlead_cli.deployment_ids import new_deployment_id
from fairlead_shared.jobs import JobState
from tests.e2e.conftest import Install
from tests.e2e.installation import Installation
from tests.polling import PATIENCE_SECONDS, wait_until


def config_map(name: str, **content: str) -> dict[str, Any]:
    """Return a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": content}


def service(name: str) -> dict[str, Any]:
    """Return a Service."""
    spec = {"selector": {"app": name}, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def never_ready(name: str) -> dict[str, Any]:
    """Return a Deployment whose pods never run."""
    pod = {"containers": [{"name": name, "image": f"nowhere.invalid/{name}:1"}]}
    labels = {"app": name}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_deploy_change_nothing_and_prune(installation: Installation) -> None:
    """Objects appear, change, stay untouched when nothing changed, and go when the bundle no longer holds them."""
    first = installation.succeed([config_map("settings", colour="blue"), config_map("extra"), service("web")])
    assert first["counts"] == {"created": 3}
    assert installation.names("configmap") == {"settings", "extra"}
    assert installation.live("configmap", "settings")["data"] == {"colour": "blue"}

    second = installation.succeed([config_map("settings", colour="red"), config_map("extra"), service("web")])
    assert second["counts"] == {"changed": 1, "unchanged": 2}
    assert second["previous_bundle_sha256"] == first["bundle_sha256"]

    before = installation.versions("configmap,service")
    third = installation.succeed([config_map("settings", colour="red"), config_map("extra"), service("web")])
    assert third["counts"] == {"unchanged": 3}
    assert installation.versions("configmap,service") == before

    fourth = installation.succeed([config_map("settings", colour="red"), service("web")])
    assert fourth["counts"] == {"unchanged": 2, "pruned": 1}
    assert "step/prune/finished" in installation.story(fourth["id"])
    assert installation.names("configmap") == {"settings"}
    installation.until_no_checkpoint()


def test_story_is_numbered_and_complete(installation: Installation) -> None:
    """The stored story holds each step once and in order, and ends with the final state."""
    shown = installation.succeed([config_map("settings"), service("web")])
    records = installation.records(shown["id"])
    positions = [record["id"] for record in records]
    assert positions == sorted(set(positions))
    keys = installation.story(shown["id"])
    assert len(set(keys)) == len(keys)
    steps = [key for key in keys if key.startswith("step/") and key.endswith("/started")]
    assert steps == [f"step/{step}/started" for step in ("verify", "fetch", "preflight", "apply", "wait")]
    assert keys[-1] == "result"
    states = [record["event"]["state"] for record in records if record["event"].get("type") == "job"]
    assert states[-1] == "succeeded"
    assert {"queued", "leased", "running"} <= set(states)


def test_rollback_returns_to_the_previous_bundle(installation: Installation) -> None:
    """A rollback deploys the bundle before the current one."""
    installation.succeed([config_map("settings", colour="blue")])
    installation.succeed([config_map("settings", colour="red")])
    body = {"deployment_id": new_deployment_id()}
    made = installation.api.ask("POST", f"{installation.environment}/rollback", body, 202)
    assert installation.until_final(made["id"])["state"] == JobState.SUCCEEDED
    assert installation.live("configmap", "settings")["data"] == {"colour": "blue"}


def test_a_failure_is_rolled_back_if_that_was_asked_for(installation: Installation) -> None:
    """By nobody's command: what it changed is as before, what it made is gone, and what failed says so."""
    healthy = installation.succeed([config_map("settings", colour="blue")])
    broken = [config_map("settings", colour="red"), never_ready("web")]
    failed = installation.until_final(installation.deploy(broken, wait_seconds=2, rollback_on_failure=True))
    assert (failed["state"], failed["counts"]) == (JobState.FAILED, {"created": 1, "changed": 1})
    rollback = installation.until_final(failed["rolled_back_by"])
    assert (rollback["state"], rollback["counts"]) == (JobState.SUCCEEDED, {"changed": 1, "pruned": 1})
    assert (rollback["rollback_of"], rollback["bundle_sha256"]) == (failed["id"], healthy["bundle_sha256"])
    assert installation.live("configmap", "settings")["data"] == {"colour": "blue"}
    assert installation.names("deployment") == set()


def test_offline_agent_gets_its_work_when_it_is_back(installation: Installation) -> None:
    """A deployment for an agent that is away waits, says why, and runs on its return."""
    assert installation.agent.stop() == 0
    installation.until_agent("offline")
    waiting = installation.deploy([config_map("settings")])
    shown = installation.deployment(waiting)
    assert shown["state"] == JobState.QUEUED
    assert "offline since" in shown["reason"]
    installation.agent.start()
    assert installation.until_final(waiting)["state"] == JobState.SUCCEEDED
    assert installation.names("configmap") == {"settings"}


def test_missing_right_is_named_as_a_rule(install: Install) -> None:
    """A 403 fails the deployment before anything is written, and the finding holds the missing rule as YAML."""
    rights = [{"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch", "create", "patch"]}]
    installation = install({"rights": rights})
    installation.agent.start()
    installation.until_agent("connected")
    shown = installation.until_final(installation.deploy([config_map("settings"), service("web")]))
    assert (shown["state"], shown["code"]) == (JobState.FAILED, "forbidden")
    findings = [
        record["event"] for record in installation.records(shown["id"]) if record["event"].get("type") == "finding"
    ]
    assert any('resources: ["configmaps"]' in finding["remedy"] for finding in findings), json.dumps(findings)
    assert installation.names("service") == set()


def test_unbound_namespace_is_refused_by_the_agent(installation: Installation) -> None:
    """The relay cannot make the agent write where its operator did not allow."""
    manifest = config_map("settings")
    manifest["metadata"]["namespace"] = "default"
    shown = installation.until_final(installation.deploy([manifest]))
    assert (shown["state"], shown["code"]) == (JobState.REFUSED, "not_bound")
    installation.agent.policy_file.write_text("bindings: []\n")
    shown = installation.until_final(installation.deploy([config_map("settings")]))
    assert (shown["state"], shown["code"]) == (JobState.REFUSED, "not_bound")


def test_health_job_answers(installation: Installation) -> None:
    """A health check reports each object the environment owns."""
    installation.succeed([config_map("settings"), service("web")])
    made = installation.api.ask("POST", f"{installation.environment}/health-checks", {}, 202)

    def ended() -> dict[str, Any] | None:
        job = installation.api.ask("GET", f"{installation.path}/jobs/{made['job_id']}")
        return job if job["state"] == "succeeded" else None

    wait_until(ended, "the health job")


def test_cancel_stops_a_waiting_deployment(installation: Installation) -> None:
    """A deployment that waits for health ends as cancelled when asked to."""
    deployment_id = installation.deploy([never_ready("web")])
    wait_until(lambda: "step/wait/started" in installation.story(deployment_id), "the wait to begin")
    installation.api.ask("POST", f"{installation.path}/deployments/{deployment_id}/cancel", {}, 202)
    assert installation.until_final(deployment_id)["state"] == JobState.CANCELLED
    installation.until_no_checkpoint()


def test_wrong_token_ends_the_agent_with_a_sentence(install: Install) -> None:
    """A token that is not known ends the process with code 4 and one sentence; the token is not in it."""
    installation = install()
    token = installation.agent.token_file.read_text()
    parts = token.split("_")
    wrong = "_".join([parts[0], parts[1], "a" * 32, parts[3]])
    installation.agent.token_file.write_text(wrong)
    installation.agent.start()
    assert installation.agent.process is not None
    assert installation.agent.process.wait(PATIENCE_SECONDS) == 4
    assert "fairlead-agent: enrolment was refused (token_invalid)" in installation.agent.log
    assert "a" * 32 not in installation.agent.log


def test_a_deleted_environment_leaves_nothing_in_the_cluster(installation: Installation) -> None:
    """All that it made is gone, what others made is not, and its hooks of that moment were made and are gone, too."""
    last = config_map("last")
    last["metadata"]["annotations"] = {"helm.sh/hook": "post-delete"}
    installation.succeed([config_map("settings"), config_map("extra"), service("web"), last])
    plan = installation.api.ask("GET", f"{installation.environment}/deletion")
    assert len(plan["objects"]) == 3
    confirmed = {"confirmation": plan["confirmation"]}
    job = installation.api.ask("DELETE", installation.environment, confirmed, 202)
    ended = installation.until_final(job["deployment_id"])
    assert (ended["state"], ended["counts"]) == (JobState.SUCCEEDED, {"pruned": 4, "created": 1}), ended
    assert installation.names("configmap") == set()
    assert installation.names("service") == set()
    installation.until_no_checkpoint()
    installation.api.ask("GET", installation.environment, expect=404)
