"""Each member installs alone: its own wheel, shared's, and the third-party packages that they declare."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DISTRIBUTIONS = {"shared": "fairlead_shared", "agent": "fairlead_agent", "relay": "fairlead_relay", "cli": "fairlead"}
PACKAGES = {"shared": "fairlead_shared", "agent": "fairlead_agent", "relay": "fairlead_relay", "cli": "fairlead_cli"}
COMMANDS = {"agent": "fairlead-agent", "relay": "fairlead-relay", "cli": "fairlead"}
VERSION = "0.1.0"

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [found.name for found in pkgutil.walk_packages(package.__path__, sys.argv[1] + ".")]
for name in names:
    # Scripts that their runner executes (Python, Alembic), and what needs an extra (`fairlead-relay[s3]`).
    if not name.endswith(("__main__", ".migrations.env", ".store.blobs.s3")):
        importlib.import_module(name)
print(package.__version__)
"""


def run(*command: str | Path, directory: Path) -> str:
    """Run a program outside the checkout and return what it printed; an error shows its words."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def by_hash(wheel: Path) -> str:
    """Render the requirement of one local wheel, which is allowed only with its hash."""
    name = wheel.name.partition("-")[0]
    return f"{name} @ {wheel.as_uri()} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


@pytest.fixture(scope="module")
def wheels(uv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheels of all members."""
    directory = tmp_path_factory.mktemp("wheels")
    run(uv, "build", "--quiet", "--offline", "--wheel", "--all-packages", "--out-dir", directory, directory=ROOT)
    return directory


@pytest.fixture(scope="module", params=DISTRIBUTIONS)
def installed(
    request: pytest.FixtureRequest, uv: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Install one member from wheels, by hash, into an environment of its own: the member and that environment."""
    member: str = request.param
    directory = tmp_path_factory.mktemp(member)
    run(uv, "venv", "--quiet", "--python", sys.executable, directory / "env", directory=directory)
    requirements = directory / "requirements.txt"
    ours = [next(wheels.glob(f"{DISTRIBUTIONS[name]}-*.whl")) for name in {member, "shared"}]
    requirements.write_text("".join(by_hash(wheel) for wheel in ours))
    constraints = ROOT / "requirements" / f"{member}.txt"
    install = (uv, "pip", "install", "--quiet", "--python", directory / "env")
    run(*install, "--require-hashes", "--constraints", constraints, "--requirements", requirements, directory=directory)
    return member, directory / "env"


def test_every_module_of_a_member_imports_alone(installed: tuple[str, Path]) -> None:
    """A module that needs another member, or an undeclared package, works only in the workspace."""
    member, environment = installed
    version = run(
        environment / "bin" / "python", "-W", "error", "-c", IMPORT_ALL, PACKAGES[member], directory=environment
    )
    assert version.strip() == VERSION


def test_a_member_carries_its_licence(installed: tuple[str, Path]) -> None:
    """The licence asks that each copy comes with it."""
    member, environment = installed
    metadata = next((environment / "lib").glob(f"python*/site-packages/{DISTRIBUTIONS[member]}-*.dist-info"))
    assert (metadata / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_a_members_command_answers_alone(installed: tuple[str, Path]) -> None:
    """The command shows its help and its version where only its wheel is."""
    member, environment = installed
    if member not in COMMANDS:
        assert not list((environment / "bin").glob("fairlead*")), "shared has no command"
        return
    command = environment / "bin" / COMMANDS[member]
    assert "Usage:" in run(command, "--help", directory=environment)
    assert VERSION in run(command, "--version", directory=environment)
