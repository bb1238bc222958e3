"""
Make the images that clusters run: ours from scratch, a Debian base, and builds of ordinary Containerfiles.

No image registry of the world is reached from here, so the base is put together from Debian packages and pushed to the
local registry under the name it has upstream; Containerfiles build on it unchanged. What a build was made from decides
its tag, so an image whose sources did not change is looked up, not built. Must not: leave a mount or process behind
when it is killed; builds run in namespaces that end with them.
"""

from __future__ import annotations

import fcntl
import hashlib
import secrets
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.binaries import binary, cache_directory
from tests.cluster.commands import run
from tests.cluster.debian import ensure_packages
from tests.cluster.progress import Durations, step
from tests.cluster.registry import Registry, empty_if_large
from tests.cluster.scratch_image import ScratchImage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.cluster.cluster import Cluster

PAUSE_IMAGE = "fairlead.test/pause:1"
"""Image of every pod's sandbox; containerd pins it."""
PROBE_IMAGE = "fairlead.test/probe:1"
"""Image of `probe`, which tests run in pods: a server to reach and tools to reach it with."""

_DEBIAN = ("bookworm", ("ca-certificates",))
"""Release and packages, beyond the minimal system, of the base image."""
_UNREAD = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*")
"""Files nobody reads in a container: a third of the base."""
_KEPT_SECONDS = 7 * 86_400
"""How long Debian as it was put together is built on; then it is made anew, with the security updates of the week."""
_BOOTSTRAP_LIMIT_SECONDS = 900.0
_BUILD_LIMIT_SECONDS = 1200.0
_STORAGE_LIMIT_BYTES = 8 * 1024**3
"""Layers kept to build on; about thirty images, of which most layers are shared."""
_CONTAINED = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--"),
)
"""Runs a program in mount and process namespaces of its own, so that neither outlives us, however we end."""
_OFFLINE = ("unshare", "--net", "--")
"""Runs a program in a network namespace without a single link that is up."""


@dataclass(frozen=True, kw_only=True)
class BuiltImage:
    """An image in the local registry."""

    registry: Registry
    """Where it can be pulled from."""
    repository: str
    """Name without the registry's address, such as "harbour/web"."""
    tag: str
    """Tag it was last given."""
    digest: str
    """Digest of its manifest, `sha256:…`."""

    @property
    def reference(self) -> str:
        """Name with tag, as pods write it."""
        return f"{self.registry.address}/{self.repository}:{self.tag}"

    @property
    def pinned(self) -> str:
        """Name with digest: the very bytes."""
        return f"{self.registry.address}/{self.repository}@{self.digest}"


def pause_image_tar() -> Path:
    """Return the pause image as an OCI layout, for `ctr images import`."""
    return scratch_image_tar(PAUSE_IMAGE, "pause")


def probe_image_tar() -> Path:
    """Return the probe image as an OCI layout, for `ctr images import` or `Registry.push`."""
    return scratch_image_tar(PROBE_IMAGE, "probe")


def scratch_image_tar(reference: str, program: str) -> Path:
    """
    Return an image that holds one of our static programs and nothing else.

    Args:
        reference: Full name with tag.
        program: Name as `binary` knows it; it becomes /NAME and the entry point.
    Returns: An OCI layout in a tar file, kept in the cache beside others of the same build.
    """
    file = binary(program)
    archive = cache_directory() / "scratch" / file.parent.name / f"{program}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        ScratchImage(reference=reference, files={f"/{program}": file}, entrypoint=(f"/{program}",)).write(archive)
    return archive


def load_image(cluster: Cluster, archive: Path) -> None:
    """
    Give an image to every real node of a cluster, without a registry.

    Args:
        cluster: A cluster with real nodes.
        archive: Tar file with an OCI layout or what `docker save` writes.
    Raises: CommandFailed: A node's containerd refused it.
    """
    for node in cluster.nodes:
        node.load_image(archive)


def debian_image(registry: Registry) -> BuiltImage:
    """
    Return minimal Debian 12 with the world's CA certificates, as `debian:12`; made once a week on a machine.

    Raises: CommandFailed: Debian's packages cannot be had.
    """
    release, packages = _DEBIAN
    key = _hash([release, *packages, *_UNREAD, str(int(time.time()) // _KEPT_SECONDS)])
    if (known := _known(registry, "debian", "12", key)) is not None:
        return known
    ensure_packages(["mmdebstrap", "buildah"])
    with _workspace("debian") as scratch:
        if (known := _known(registry, "debian", "12", key)) is not None:
            return known
        with _timed("putting Debian together from its packages (once a week)", "debian", 45):
            options = [f"--dpkgopt=path-exclude={pattern}" for pattern in _UNREAD]
            archive = str(scratch / "debian.tar")
            argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}", *options]
            _run_contained(["env", f"TMPDIR={scratch}", *argv, release, archive], _BOOTSTRAP_LIMIT_SECONDS)
        instructions = "FROM scratch\nADD debian.tar /\n"
        return _build(registry, instructions, scratch, "debian", "12", key, (), network=False)


def python_image(registry: Registry) -> BuiltImage:
    """
    Return Debian 12 with its Python 3.11, as `debian:12-python3.11`: the base of the agent's and the relay's image.

    Raises: CommandFailed: Debian's packages cannot be had.
    """
    folder = Path(__file__).parent / "images"
    arguments = {"BASE": debian_image(registry).pinned}
    return build_image(
        registry, folder / "python.Containerfile", folder, "debian:12-python3.11", build_args=arguments, network=True
    )


def build_image(
    registry: Registry,
    containerfile: Path,
    context: Path,
    name: str,
    *,
    build_args: Mapping[str, str] | None = None,
    network: bool = False,
    timeless: bool = False,
    afresh: bool = False,
) -> BuiltImage:
    """
    Build a Containerfile and push the image, unless one of the same sources is there.

    Args:
        registry: Where to push it, and where its base is pulled from.
        containerfile: The instructions; `ARG BASE` with `FROM ${BASE}` takes one of our bases by `build_args`.
        context: Directory its COPY and ADD read; all of it counts as source, so keep it small.
        name: Repository and tag, such as "harbour/web:1".
        build_args: Values of its ARGs.
        network: Whether RUN reaches Debian's packages; everything else is to be copied in.
        timeless: Give every file and the image itself the time 0, so that the same sources make the same digest.
        afresh: Build it even if it is there, without a layer of an earlier build: for who compares the two.
    Returns: The image, pushed and tagged.
    Raises:
        CommandFailed: The build failed; its last words are in the error.
        RegistryRefused: The push failed.
    """
    repository, _, tag = name.rpartition(":")
    arguments = sorted((build_args or {}).items())
    # The registry's port differs from run to run and says nothing about the image.
    stated = [f"{key}={text.replace(registry.address, 'registry')}" for key, text in arguments]
    key = _hash([containerfile.read_text(), *stated, str(network), str(timeless), *_tree(context)])
    if not afresh and (known := _known(registry, repository, tag, key)) is not None:
        return known
    ensure_packages(["buildah"])
    instructions = containerfile.read_text()
    options = ["--timestamp=0"] if timeless else []
    if afresh:
        key += f"-{secrets.token_hex(4)}"
        options.append("--no-cache")
    for argument, text in arguments:
        options += ["--build-arg", f"{argument}={text}"]
        # buildah 1.28 finds layers by the instruction's text alone: `ENV A=${B}` would be that of another value of B.
        instructions = instructions.replace(f"${{{argument}}}", text)
    return _build(registry, instructions, context, repository, tag, key, options, network=network)


def _known(registry: Registry, repository: str, tag: str, key: str) -> BuiltImage | None:
    """Return the image once built from the same sources, tagged anew; None if there is none."""
    digest = registry.digest(repository, f"built-{key}")
    if digest is None:
        return None
    if registry.digest(repository, tag) != digest:
        registry.tag(repository, digest, tag)
    return BuiltImage(registry=registry, repository=repository, tag=tag, digest=digest)


def _build(
    registry: Registry,
    instructions: str,
    context: Path,
    repository: str,
    tag: str,
    key: str,
    options: Sequence[str],
    *,
    network: bool,
) -> BuiltImage:
    storage = _storage()
    with _workspace("storage") as scratch:
        if (known := _known(registry, repository, tag, key)) is not None:
            return known
        # A run root of its own: counts of mounts that died with their namespace must not be believed.
        buildah = ["env", "BUILDAH_ISOLATION=chroot", "buildah", "--root", str(storage), "--runroot", f"{scratch}/run"]
        buildah += ["--storage-driver", "overlay"]
        containerfile = scratch / "Containerfile"
        containerfile.write_text(instructions)
        local = f"localhost/{repository}:built-{key}"
        with _timed(f"building image {repository}:{tag}", f"image {repository}", 20):
            for base in _bases(instructions):
                _run_contained([*buildah, "pull", "--quiet", "--tls-verify=false", base], _BUILD_LIMIT_SECONDS)
            _run_contained(
                [
                    *(*buildah, "build", "--quiet", "--layers", "--format=oci", "--pull-never", *options),
                    *("--tag", local, "--file", str(containerfile), str(context)),
                ],
                _BUILD_LIMIT_SECONDS,
                network=network,
            )
            remote = f"docker://{registry.address}/{repository}:built-{key}"
            _run_contained([*buildah, "push", "--quiet", "--tls-verify=false", local, remote], _BUILD_LIMIT_SECONDS)
    image = _known(registry, repository, tag, key)
    if image is None:
        raise AssertionError(f"{remote} was pushed and is not there")
    return image


def _bases(instructions: str) -> Iterator[str]:
    """Yield the images that a Containerfile builds on, its own stages left out."""
    stages = {"scratch"}
    for line in instructions.splitlines():
        words = line.split()
        if len(words) > 1 and words[0].upper() == "FROM":
            if words[1] not in stages:
                yield words[1]
            stages.add(words[-1])


def _run_contained(argv: Sequence[str], seconds: float, *, network: bool = True) -> None:
    # With its chroot isolation buildah accepts `--network none` and shares the host's network all the same.
    run([*(() if network else _OFFLINE), *_CONTAINED, *argv], seconds=seconds)


def _tree(context: Path) -> Iterator[str]:
    """Yield what a directory holds: each file's path, whether it may be executed, and its content's hash."""
    for path in sorted(context.rglob("*")):
        if path.is_file():
            executable = bool(path.stat().st_mode & 0o100)
            yield f"{path.relative_to(context)} {executable} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _directory(name: str) -> Path:
    path = cache_directory() / "images" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


@cache
def _storage() -> Path:
    """Return the directory of layers to build on, its size looked at once a process: that takes a second."""
    storage = _directory("storage")
    empty_if_large(storage, _STORAGE_LIMIT_BYTES)
    return storage


@contextmanager
def _workspace(name: str) -> Iterator[Path]:
    """
    Give an empty directory to one process at a time, the lock of `name` held: two builds would only share two cores.

    What a killed process left in it goes when the next one comes.
    """
    scratch = _directory(f"{name}.work")
    with scratch.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(exist_ok=True)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _timed(what: str, name: str, first_estimate_seconds: float) -> Iterator[None]:
    durations = Durations(cache_directory() / "durations.json")
    begun = time.monotonic()
    with step(what, durations.last(name, first_estimate_seconds)):
        yield
    durations.record(name, time.monotonic() - begun)
