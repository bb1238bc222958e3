"""Drift the whole way: a change in the cluster, its agent, the relay, and the command that says who made it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from fairlead_cli.deployment_ids import new_deployment_id
from fairlead_shared.jobs import JobState
from tests.e2e.conftest import Install
from tests.e2e.installation import Installation
from tests.e2e.test_deploy import config_map, never_ready
from tests.polling import wait_until

SOON_SECONDS = 60.0
"""For what takes two seconds; how soon the agent sees it, test_engine_drift holds."""


def fairlead(installation: Installation, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, as the administrator."""
    variables = {
        "FAIRLEAD_SERVER": installation.relay.api_url,
        "FAIRLEAD_CA_FILE": str(installation.relay.ca_file),
        "FAIRLEAD_TOKEN": installation.api.headers["Authorization"].removeprefix("Bearer "),
        "FAIRLEAD_CONFIG": str(home / "config.yaml"),
    }
    command = [sys.executable, "-m", "fairlead_cli", *arguments]
    return subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=SOON_SECONDS
    )


def until_drift(installation: Installation, drifted: int, bundle_sha256: str) -> dict[str, Any]:
    """Wait until the agent has said of a bundle that so many objects are drifted."""
    seen: dict[str, Any] = {}

    def reached() -> bool:
        seen.update(installation.api.ask("GET", f"{installation.environment}/drift"))
        is_told = seen["watched"] and seen["bundle_sha256"] == bundle_sha256
        return bool(is_told and seen["drifted"] == drifted)

    try:
        wait_until(reached, f"{drifted} drifted objects", SOON_SECONDS)
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {seen}\nagent:\n{installation.agent.log[-4000:]}") from None
    return seen


def test_the_command_says_who_scaled_what(installation: Installation, tmp_path: Path) -> None:
    """By exit code too if asked; and nothing is drifted any more once it is as it was."""
    web = never_ready("web")
    web["spec"]["replicas"] = 0  # nothing that would have to become ready
    bundle = installation.succeed([web, config_map("settings")])["bundle_sha256"]
    until_drift(installation, 0, bundle)
    calm = fairlead(installation, tmp_path, "drift", "shop/staging", "--exit-code")
    assert (calm.returncode, calm.stdout) == (0, ""), calm
    scale = ("scale", "deployment", "web", "-n", installation.namespace)
    installation.cluster.kubectl(*scale, "--replicas=3")
    until_drift(installation, 1, bundle)
    found = fairlead(installation, tmp_path, "drift", "shop/staging", "--exit-code")
    assert found.returncode == 1, found
    first, second = found.stdout.splitlines()
    assert re.fullmatch(rf"~ Deployment {installation.namespace}/web changed by kubectl \S+ ago", first)
    assert second == "    spec.replicas: 0 → 3"
    assert "1 object" in fairlead(installation, tmp_path, "env", "list").stdout
    installation.cluster.kubectl(*scale, "--replicas=0")
    until_drift(installation, 0, bundle)


def test_correction_puts_back_what_a_rollback_brought(install: Install) -> None:
    """A rollback is what the environment is meant to be from then on, not the deployment that it rolled back."""
    installation = install()
    policy = yaml.safe_load(installation.agent.policy_file.read_text())
    installation.agent.policy_file.write_text(yaml.safe_dump(policy | {"drift": {"mode": "correct"}}))
    installation.agent.start()
    installation.until_agent("connected")

    def until_corrected(colour: str, bundle_sha256: str) -> None:
        until_drift(installation, 0, bundle_sha256)
        patch = '{"data": {"colour": "green"}}'
        installation.cluster.kubectl("patch", "configmap", "settings", "-n", installation.namespace, "-p", patch)
        wait_until(
            lambda: installation.live("configmap", "settings")["data"] == {"colour": colour},
            f"the ConfigMap to be {colour} again",
            SOON_SECONDS,
        )

    blue = installation.succeed([config_map("settings", colour="blue")])["bundle_sha256"]
    red = installation.succeed([config_map("settings", colour="red")])["bundle_sha256"]
    until_corrected("red", red)
    body = {"deployment_id": new_deployment_id()}
    made = installation.api.ask("POST", f"{installation.environment}/rollback", body, 202)
    assert installation.until_final(made["id"])["state"] == JobState.SUCCEEDED
    until_corrected("blue", blue)
