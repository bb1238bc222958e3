"""
Pins the workspace's third-party dependencies, with hashes and for every platform.

`dev.txt` pins all that `.venv` holds; `agent.txt`, `relay.txt`, `cli.txt` and `shared.txt` pin what each image or wheel
installs, at the same versions; `uv.txt` pins uv itself, which pip installs first. The files name no package index, so
that a mirror serves them as well. It runs before any environment exists: it may import only the standard library.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent
WORKSPACE = REQUIREMENTS.parent
MEMBERS = ("shared", "agent", "relay", "cli")
DEADLINE_SECONDS = 600
"""One resolution takes seconds; ten minutes covers a slow index with a cold cache."""


def compile_lock(uv: str, target: Path, arguments: list[str]) -> None:
    """Resolve one lock file with uv, from the versions it already pins unless told to upgrade."""
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-package", "fairlead-shared"]
    command += ["--output-file", str(target), *arguments]
    environment = os.environ | {"UV_CUSTOM_COMPILE_COMMAND": "make lock"}
    subprocess.run(command, cwd=WORKSPACE, env=environment, check=True, timeout=DEADLINE_SECONDS)  # noqa: S603 (our own uv)


def write_locks(uv: str, directory: Path, extra: list[str]) -> None:
    """
    Write every lock file.

    Args:
        uv: Path of the uv executable.
        directory: Where the files go; files already there are the versions to keep.
        extra: Further arguments of `uv pip compile` for the two files that choose versions.

    """
    projects = ["pyproject.toml", *(f"{member}/pyproject.toml" for member in MEMBERS)]
    compile_lock(uv, directory / "uv.txt", ["requirements/uv.in", *extra])
    compile_lock(uv, directory / "dev.txt", [*projects, "--group", "dev", "--all-extras", *extra])
    for member in MEMBERS:
        pinned = ["--constraints", str(directory / "dev.txt")]
        compile_lock(uv, directory / f"{member}.txt", [f"{member}/pyproject.toml", "--all-extras", *pinned])


def main() -> None:
    """Read the arguments and write the locks beside this file."""
    parser = argparse.ArgumentParser(description="Pin the workspace's dependencies.")
    parser.add_argument("uv", help="path of the uv executable")
    parser.add_argument("--directory", type=Path, default=REQUIREMENTS, help="where the lock files are (default: here)")
    parser.add_argument("--upgrade", action="store_true", help="choose the newest releases instead of the pinned ones")
    arguments = parser.parse_args()
    try:
        write_locks(arguments.uv, arguments.directory, ["--upgrade"] if arguments.upgrade else [])
    except subprocess.CalledProcessError as error:
        sys.exit(f"lock: uv could not resolve the dependencies (exit code {error.returncode}); its reason is above")


if __name__ == "__main__":
    main()
