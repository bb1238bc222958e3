"""The locks hold what the members' pyproject.toml files ask for, by hash."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
LOCKS = ("agent.txt", "cli.txt", "dev.txt", "relay.txt", "shared.txt", "uv.txt")


@pytest.fixture(scope="module")
def locked_again(uv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the locks again beside the old ones, whose versions are kept where they still fit."""
    directory = tmp_path_factory.mktemp("locks")
    for name in LOCKS:
        shutil.copy(REQUIREMENTS / name, directory)
    command = [sys.executable, str(REQUIREMENTS / "lock.py"), str(uv), "--directory", str(directory)]
    subprocess.run(command, check=True, timeout=110)
    return directory


@pytest.mark.parametrize("name", LOCKS)
def test_locks_are_in_step_with_what_is_declared(name: str, locked_again: Path) -> None:
    """A dependency that was declared and not locked would be missing from the next image."""
    assert (REQUIREMENTS / name).read_text() == (locked_again / name).read_text(), "run make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_each_locked_package_has_its_hashes(name: str) -> None:
    """Without hashes a mirror could hand out anything under the locked version."""
    entries = (REQUIREMENTS / name).read_text().replace("\\\n", " ").splitlines()
    packages = [entry for entry in entries if entry and not entry.startswith("#")]
    assert packages
    assert [entry for entry in packages if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_the_build_backend_is_of_the_locked_uvs_version() -> None:
    """Uv builds wheels without asking an index only if its own version is the backend's."""
    locked = (REQUIREMENTS / "uv.in").read_text().strip().partition("==")[2]
    wanted = [f"uv_build>={locked},<0.{int(locked.split('.')[1]) + 1}"]
    for member in ("shared", "agent", "relay", "cli"):
        assert tomllib.loads((ROOT / member / "pyproject.toml").read_text())["build-system"]["requires"] == wanted
