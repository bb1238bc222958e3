"""docs/ci.md and docs/sdk.md: their commands, as each platform would run them, with a real relay and a real agent."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.e2e.installation import Installation
from tests.e2e.typed_pages import Terminal
from tests.integration.relay_process import RelayProcess
from tests.repository.checkout import ROOT
from tests.repository.pages import Block, blocks

CI: Final = ROOT / "docs" / "ci.md"
SDK: Final = ROOT / "docs" / "sdk.md"
WEB: Final[dict[str, Any]] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"a": "1"}}

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def checkout(relay: RelayProcess, installation: Installation, tmp_path: Path) -> Terminal:
    """Return a shell in the folder that CI has checked out; nobody is logged in."""
    replacements = {
        "https://relay.example.com:7443": relay.api_url,
        '"namespace": "shop"': f'"namespace": "{installation.namespace}"',
        "pip install fairlead": "fairlead --version",  # it is installed, from this checkout
    }
    terminal = Terminal(tmp_path / "checkout", replacements)
    shutil.copy(relay.ca_file, terminal.directory / "ca.pem")
    (terminal.directory / "k8s").mkdir()
    (terminal.directory / "k8s" / "web.yaml").write_text(yaml.safe_dump(WEB))
    admin = relay.token("admin", installation.organization)
    terminal.environment = {"FAIRLEAD_SERVER": relay.api_url, "FAIRLEAD_CA_FILE": "ca.pem", "FAIRLEAD_TOKEN": admin}
    terminal.type_section(CI, "A token for the pipeline")
    terminal.environment = {}
    return terminal


def block_of(page: Path, section: str) -> Block:
    """Return the one block of a section."""
    [found] = [block for block in blocks(page) if block.section == section]
    return found


def run_all(terminal: Terminal, variables: dict[str, str], scripts: list[str]) -> str:
    """Run a job: each step in a shell of its own, with the job's variables; its token is the stored secret."""
    secret = (terminal.directory / "ci-token").read_text()
    terminal.environment = {name: terminal.typed(value) for name, value in variables.items()}
    assert "FAIRLEAD_TOKEN" in terminal.environment
    terminal.environment["FAIRLEAD_TOKEN"] = secret
    said = "".join(map(terminal.run, scripts))
    assert secret not in said
    return said


def test_github_actions(checkout: Terminal, installation: Installation) -> None:
    """The first time all is new; the second nothing changes, and both succeed."""
    [job] = yaml.safe_load(block_of(CI, "GitHub Actions").text)["jobs"].values()
    scripts = [step["run"] for step in job["steps"] if "run" in step]
    assert job["env"]["FAIRLEAD_TOKEN"] == "${{ secrets.FAIRLEAD_TOKEN }}"
    said = run_all(checkout, job["env"], scripts)
    assert "created ConfigMap" in said
    assert installation.live("configmap", "web")["data"] == {"a": "1"}
    assert "unchanged ConfigMap" in run_all(checkout, job["env"], scripts)


def test_gitlab_ci(checkout: Terminal, installation: Installation) -> None:
    """The token comes from the project's variables."""
    [job] = yaml.safe_load(block_of(CI, "GitLab CI").text).values()
    run_all(checkout, job["variables"] | {"FAIRLEAD_TOKEN": ""}, job["script"])
    assert installation.live("configmap", "web")["data"] == {"a": "1"}


def test_jenkins(checkout: Terminal, installation: Installation) -> None:
    """Steps and environment of the declarative pipeline."""
    text = block_of(CI, "Jenkins").text
    variables = dict(re.findall(r"^ +([A-Z_]+) = (?:'([^']*)'|credentials\('[^']*'\))$", text, re.MULTILINE))
    scripts = re.findall(r"^ +sh '([^']*)'$", text, re.MULTILINE)
    assert len(scripts) == 2
    run_all(checkout, variables, scripts)
    assert installation.live("configmap", "web")["data"] == {"a": "1"}


def test_the_page_of_the_sdk(checkout: Terminal, installation: Installation) -> None:
    """Each program as it stands."""
    look, deploy = [block for block in blocks(SDK) if block.language == "python"]
    checkout.environment = {
        "FAIRLEAD_SERVER": checkout.typed("https://relay.example.com:7443"),
        "FAIRLEAD_CA_FILE": "ca.pem",
        "FAIRLEAD_TOKEN": (checkout.directory / "ci-token").read_text(),
    }
    said = []
    for block in (look, deploy):
        (checkout.directory / "program.py").write_text(checkout.typed(block.text))
        said.append(checkout.run(f"{sys.executable} program.py"))
    assert said[0].splitlines() == [f"{installation.organization} deployer", "staging blue None"]
    assert said[1].splitlines()[-1] == "succeeded {'created': 1}"
    assert installation.live("configmap", "web")["data"] == {"color": "blue"}
