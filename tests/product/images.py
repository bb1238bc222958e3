"""
Build the real images of agent and relay, of this checkout or of the version before, as deploy/images describes.

Wheels are made and downloaded outside the build, by hash from requirements/, and kept in the cache; the build itself
has no network. What did not change is not built again. Must not: know how the images are run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.cluster.binaries import cache_directory
from tests.cluster.commands import run
from tests.cluster.images import build_image, python_image
from tests.cluster.progress import Durations, step

if TYPE_CHECKING:
    from tests.cluster.images import BuiltImage
    from tests.cluster.registry import Registry

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "deploy" / "images"
PREVIOUS = ROOT / "tests" / "previous"
Member = Literal["agent", "relay"]

_SOURCE = "https://fairlead.invalid/source"
"""Stands for where a release's source is."""
_PREVIOUSLY_IMPORTED: dict[Member, tuple[str, ...]] = {
    "agent": (),
    "relay": ("pydantic-settings==", "python-dotenv=="),
}
"""What the wheels of tests/previous import and today's do not."""
_DOWNLOAD_SECONDS = 600.0
_WHEEL_SECONDS = 120.0


def product_image(registry: Registry, member: Member, *, previous: bool = False, afresh: bool = False) -> BuiltImage:
    """
    Build and push the image of a member, or find it built.

    Args:
        registry: Where to push it.
        member: "agent" or "relay".
        previous: Of the wheels in tests/previous, and not of this checkout.
        afresh: Build it even if it is there, as `build_image` does.
    Returns: The image, tagged with the member's version.
    Raises: CommandFailed: A download or the build failed.
    """
    base = python_image(registry)
    version = tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]["version"]
    repository, _, digest = base.pinned.partition("@")
    revision, created = ("previous", "") if previous else _commit()
    arguments = {"BASE": repository, "BASE_DIGEST": digest, "VERSION": version}
    arguments |= {"REVISION": revision, "CREATED": created, "SOURCE": _SOURCE}
    with tempfile.TemporaryDirectory(prefix=f"{member}-context-", dir=_cache("contexts")) as folder:
        context = Path(folder)
        shutil.copy(IMAGES / "assemble", context)
        lock = _previous_lock(member) if previous else (ROOT / "requirements" / f"{member}.txt").read_text()
        (context / "requirements.txt").write_text(lock)
        _link(_downloaded(member, lock), context / "wheels")
        _link(_downloaded("uv", (ROOT / "requirements" / "uv.txt").read_text()), context / "tools")
        for package in ("shared", member):
            if previous:
                (context / "own").mkdir(exist_ok=True)
                shutil.copy(next(PREVIOUS.glob(f"fairlead_{package}-*.whl")), context / "own")
            else:
                _wheel(f"fairlead-{package}", context / "own")
        return build_image(
            registry,
            IMAGES / member / "Containerfile",
            context,
            f"fairlead-{member}:{version}{'-previous' if previous else ''}",
            build_args=arguments,
            timeless=True,
            afresh=afresh,
        )


def _commit() -> tuple[str, str]:
    """Return what this checkout is at: its commit, marked if it was changed since, and when that was made."""
    git = ["git", "-C", str(ROOT)]
    revision = run([*git, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"], seconds=30).strip()
    made = int(run([*git, "log", "-1", "--format=%ct"], seconds=30))
    return revision, datetime.fromtimestamp(made, UTC).isoformat()


def _previous_lock(member: Member) -> str:
    """Return today's lock of a member, with what its previous version imported besides, out of requirements/dev.txt."""
    entries = re.split(r"^(?=[a-z])", (ROOT / "requirements" / "dev.txt").read_text(), flags=re.MULTILINE)
    further = [entry for entry in entries if entry.startswith(_PREVIOUSLY_IMPORTED[member])]
    return "".join([(ROOT / "requirements" / f"{member}.txt").read_text(), *further])


def _downloaded(name: str, lock: str) -> Path:
    """Return a folder with the wheels that the text of a lock pins for this Python, downloaded once."""
    key = hashlib.sha256(f"{sys.version}\0{lock}".encode()).hexdigest()[:16]
    target = _cache("wheels") / f"{name}-{key}"
    if target.is_dir():
        return target
    durations = Durations(cache_directory() / "durations.json")
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as folder:
        fresh = Path(folder) / "wheels"
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(lock)
        with step(f"downloading the packages of the lock of {name}", durations.last(f"wheels {name}", 15)):
            run(
                [
                    *(str(_uv().parent / "python"), "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
                    *("--no-deps", "--require-hashes", "--only-binary", ":all:"),
                    *("--requirement", str(requirements), "--dest", str(fresh)),
                ],
                seconds=_DOWNLOAD_SECONDS,
            )
        try:
            fresh.rename(target)
        except OSError:
            # Somebody else was faster; theirs has the same content.
            if not target.is_dir():
                raise
    return target


def _wheel(package: str, target: Path) -> None:
    """Build the wheel of a workspace member; the build backend writes no times, so equal sources give equal bytes."""
    argv = [str(_uv()), "build", "--quiet", "--offline", "--wheel", "--package", package, "--out-dir", str(target)]
    subprocess.run(argv, cwd=ROOT, check=True, timeout=_WHEEL_SECONDS, capture_output=True)
    (target / ".gitignore").unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """Give a build context the files of a cache folder, without copying them."""
    target.mkdir()
    for path in source.iterdir():
        os.link(path, target / path.name)


def _uv() -> Path:
    """Return the pinned uv; it lives in an environment of its own, which has pip."""
    return (Path(sys.prefix) / "bin" / "uv").resolve(strict=True)


def _cache(name: str) -> Path:
    path = cache_directory() / name
    path.mkdir(parents=True, exist_ok=True)
    return path
