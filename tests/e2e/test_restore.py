"""A relay that lost its store goes on from a backup: nothing runs twice, and nothing is undone."""

from pathlib import Path
from typing import Any

from click.testing import CliRunner

from fairlead_relay.commands.root import cli
from fairlead_shared.jobs import JobState
from tests.e2e.installation import Installation
from tests.integration.relay_process import RelayProcess
from tests.polling import wait_until


def settings(version: str, count: int = 3) -> list[dict[str, Any]]:
    """Return ConfigMaps with a version."""
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"settings-{n}"}, "data": {"version": version}}
        for n in range(count)
    ]


def never_ready() -> dict[str, Any]:
    """Return a Deployment whose pod waits at a gate for ever: that it found no node would be a failure after 20 s."""
    labels, gates = {"app": "web"}, [{"name": "fairlead.dev/test"}]
    containers = [{"name": "web", "image": "web:1"}]
    pod = {"metadata": {"labels": labels}, "spec": {"containers": containers, "schedulingGates": gates}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def administer(relay: RelayProcess, *arguments: str) -> str:
    """Run the relay's own command on its data directory."""
    result = CliRunner().invoke(cli, [*arguments, "--data-dir", str(relay.data_dir)], env=relay.environment)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_restored_relay_repeats_and_undoes_nothing(installation: Installation, tmp_path: Path) -> None:
    """What waited in the backup was carried out since, and what came after it too: the agent knows, and says so."""
    relay, backup = installation.relay, tmp_path / "relay.backup"
    first = installation.succeed(settings("1"))["id"]
    installation.agent.stop()
    installation.until_agent("offline")
    waiting = [installation.deploy(settings(version)) for version in ("2", "3")]
    # The relay serves meanwhile.
    assert "bundles are backed up" in administer(relay, "backup", "--output", str(backup))
    installation.agent.start()
    for deployment_id in waiting:
        assert installation.until_final(deployment_id)["state"] == JobState.SUCCEEDED
    after = installation.succeed(settings("4"))["id"]
    versions = installation.versions("configmap")

    relay.kill()
    output = administer(relay, "restore", "--replace", str(backup))
    assert "kept the tokens, agents and approvals" in output
    relay.start()
    installation.until_agent("connected")
    for deployment_id in waiting:
        shown = installation.until_final(deployment_id)
        assert (shown["state"], shown["code"]) == (JobState.REFUSED, "replay"), shown
        assert "was carried out before" in shown["cause"]
    assert installation.deployment(first)["state"] == JobState.SUCCEEDED
    installation.api.ask("GET", f"{installation.path}/deployments/{after}", expect=404)
    assert installation.versions("configmap") == versions
    assert installation.live("configmap", "settings-0")["data"] == {"version": "4"}
    # And from here on as ever: the next one changes, and prunes by the agent's own inventory.
    assert installation.succeed(settings("5", count=2))["counts"] == {"changed": 2, "pruned": 1}


def test_a_job_goes_on_through_a_restore(installation: Installation, tmp_path: Path) -> None:
    """Its agent still has it: the same attempt, and an answer to a cancel."""
    relay, backup = installation.relay, tmp_path / "relay.backup"
    deployment_id = installation.deploy([*settings("1"), never_ready()])
    installation.until_state(deployment_id, JobState.RUNNING)
    administer(relay, "backup", "--output", str(backup))
    relay.kill()
    assert "1 jobs wait for their agents" in administer(relay, "restore", "--replace", str(backup))
    relay.start()
    shown = installation.until_state(deployment_id, JobState.RUNNING)
    assert shown["job"]["attempt"] == 1
    installation.api.ask("POST", f"{installation.path}/deployments/{deployment_id}/cancel", expect=202)
    assert installation.until_final(deployment_id)["state"] == JobState.CANCELLED


def test_a_job_that_the_backup_does_not_know_is_left(installation: Installation, tmp_path: Path) -> None:
    """It began after the backup: its agent stops where it is, and the next deployment goes on from there."""
    relay, backup = installation.relay, tmp_path / "relay.backup"
    administer(relay, "backup", "--output", str(backup))
    installation.deploy([*settings("1"), never_ready()])
    wait_until(lambda: "web" in installation.names("deployment"), "the Deployment to be applied")
    relay.kill()
    administer(relay, "restore", "--replace", str(backup))
    relay.start()
    installation.until_no_checkpoint()
    assert installation.succeed(settings("2"))["counts"]["pruned"] == 1
