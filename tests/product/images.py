"""
Build the real images of agent and relay from this checkout, as deploy/images describes.

Wheels are made and downloaded outside the build, by hash from requirements/, and kept in the cache; the build itself
has no network. What did not change is not built again. Must not: know how the images are run.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
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
Member = Literal["agent", "relay"]

_DOWNLOAD_SECONDS = 600.0
_WHEEL_SECONDS = 120.0


def product_image(registry: Registry, member: Member) -> BuiltImage:
    """
    Build and push the image of a member, or find it built.

    Args:
        registry: Where to push it.
        member: "agent" or "relay".
    Returns: The image, tagged with the member's version.
    Raises: CommandFailed: A download or the build failed.
    """
    base = python_image(registry)
    version = tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]["version"]
    lock = ROOT / "requirements" / f"{member}.txt"
    with tempfile.TemporaryDirectory(prefix=f"{member}-context-", dir=_cache("contexts")) as folder:
        context = Path(folder)
        (context / "requirements.txt").write_bytes(lock.read_bytes())
        _link(_downloaded(lock), context / "wheels")
        _link(_downloaded(ROOT / "requirements" / "uv.txt"), context / "tools")
        for package in ("fairlead-shared", f"fairlead-{member}"):
            _wheel(package, context / "own")
        return build_image(
            registry,
            ROOT / "deploy" / "images" / member / "Containerfile",
            context,
            f"fairlead-{member}:{version}",
            build_args={"BASE": base.pinned, "VERSION": version},
        )


def _downloaded(lock: Path) -> Path:
    """Return a folder with the wheels that a lock pins for this Python, downloaded once."""
    key = hashlib.sha256(f"{sys.version}\0{lock.read_text()}".encode()).hexdigest()[:16]
    target = _cache("wheels") / f"{lock.stem}-{key}"
    if target.is_dir():
        return target
    durations = Durations(cache_directory() / "durations.json")
    with tempfile.TemporaryDirectory(prefix=f".{lock.stem}-", dir=target.parent) as folder:
        fresh = Path(folder) / "wheels"
        with step(f"downloading the packages of requirements/{lock.name}", durations.last(f"wheels {lock.stem}", 15)):
            run(
                [
                    *(str(_uv().parent / "python"), "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
                    *("--no-deps", "--require-hashes", "--only-binary", ":all:"),
                    *("--requirement", str(lock), "--dest", str(fresh)),
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
