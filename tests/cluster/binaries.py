"""
Build the programs of a cluster from Go modules, lazily, once per machine.

No package registry has Kubernetes ready-made, so each module under go/ pins one program (or a family) by go.mod and
go.sum; the result is cached outside the checkout under a key of everything that shapes it, so a second clone starts in
seconds. Must not: build what nobody asked for, or run two heavy builds at once (two cores, two gigabytes per link).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.errors import BuildFailed, MissingTool
from tests.cluster.progress import Durations, say, seconds_text, step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SOURCES = Path(__file__).parent / "go"
_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local", "GOWORK": "off"}
"""Static programs, since they also run in images without libc; the compiler found here, never one fetched."""
_BUILD_LIMIT_SECONDS = 3600.0
"""Longest build tolerated: seven times the longest known one on two cores."""
_UNUSED_SECONDS = 30 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class KubernetesRelease:
    """A release of Kubernetes that clusters may run."""

    version: str
    """What the control plane, kubelet and kubectl report."""
    folder: str
    """Its folder below go/, whose go.mod pins the same."""
    mutating_policies: str = "v1"
    """The version of the API that has MutatingAdmissionPolicies."""


_RELEASES = {
    "1.35": KubernetesRelease(version="1.35.4", folder="kube-1.35", mutating_policies="v1beta1"),
    "1.37": KubernetesRelease(version="1.37.2", folder="kube"),
}
"""By minor version: the newest, and the oldest that its makers still mend (`make matrix`)."""


def _chosen() -> KubernetesRelease:
    minor = os.environ.get("FAIRLEAD_KUBERNETES", "1.37")
    if minor not in _RELEASES:
        raise SystemExit(f"FAIRLEAD_KUBERNETES={minor}: give one of {', '.join(_RELEASES)}")
    return _RELEASES[minor]


KUBERNETES = _chosen()
"""What each cluster of this process runs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GoModule:
    """One folder under go/ and the programs it yields."""

    folder: str
    """Name of the folder below go/."""
    packages: Mapping[str, str]
    """Program name to Go package; one package may yield several names (a multi-call binary)."""
    cold_seconds: float
    """Build time with empty caches on two cores: the first estimate."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Strings the linker sets, for versions that a release's own build would stamp."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Return the arguments of `go build`; no symbol tables, since nobody debugs these here."""
        stamps = [f"-X {name}={text}" for name, text in self.variables.items()]
        return ("-trimpath", "-ldflags", " ".join(["-s", "-w", *stamps]))


_KUBE_PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
_VERSION = "k8s.io/component-base/version"
_CONTAINERD = "github.com/containerd/containerd/v2"
_MAJOR, _MINOR, _PATCH = KUBERNETES.version.split(".")

MODULES = (
    GoModule(
        folder=KUBERNETES.folder,
        packages=dict.fromkeys(_KUBE_PROGRAMS, "."),
        cold_seconds=540,
        variables={
            f"{_VERSION}.gitVersion": f"v{KUBERNETES.version}",
            f"{_VERSION}.gitMajor": _MAJOR,
            f"{_VERSION}.gitMinor": _MINOR,
            f"{_VERSION}.gitTreeState": "clean",
        },
    ),
    GoModule(
        folder="containerd",
        packages={
            "containerd": f"{_CONTAINERD}/cmd/containerd",
            "containerd-shim-runc-v2": f"{_CONTAINERD}/cmd/containerd-shim-runc-v2",
            "ctr": f"{_CONTAINERD}/cmd/ctr",
        },
        cold_seconds=80,
        variables={f"{_CONTAINERD}/version.Version": "v2.4.2"},
    ),
    GoModule(
        folder="node",
        packages={
            name: f"./cmd/{name}" for name in sorted(path.name for path in (_SOURCES / "node" / "cmd").glob("*"))
        },
        cold_seconds=60,
    ),
    GoModule(folder="kwok", packages={"kwok": "sigs.k8s.io/kwok/cmd/kwok"}, cold_seconds=90),
    GoModule(folder="compose", packages={"compose-spec": "."}, cold_seconds=30),
    GoModule(folder="helm", packages={"helm": "helm.sh/helm/v4/cmd/helm"}, cold_seconds=120),
    GoModule(folder="kustomize", packages={"kustomize": "sigs.k8s.io/kustomize/kustomize/v5"}, cold_seconds=40),
    GoModule(
        folder="kustomize-controller",
        packages={"kustomize-controller": "github.com/fluxcd/kustomize-controller"},
        cold_seconds=300,
    ),
    GoModule(folder="coredns", packages={"coredns": "github.com/coredns/coredns"}, cold_seconds=180),
    GoModule(
        folder="metrics-server",
        packages={"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"},
        cold_seconds=150,
    ),
    GoModule(
        folder="versitygw", packages={"versitygw": "github.com/versity/versitygw/cmd/versitygw"}, cold_seconds=150
    ),
    GoModule(folder="cert-manager", packages={"cert-manager": "."}, cold_seconds=240),
    GoModule(folder="traefik", packages={"traefik": "github.com/traefik/traefik/v3/cmd/traefik"}, cold_seconds=360),
)


def cache_directory() -> Path:
    """
    Return where built things are kept between runs and checkouts.

    Returns: `$FAIRLEAD_CACHE/cluster`, else `$XDG_CACHE_HOME/fairlead/cluster`, else `~/.cache/fairlead/cluster`.
    """
    if chosen := os.environ.get("FAIRLEAD_CACHE"):
        return Path(chosen) / "cluster"
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fairlead" / "cluster"


def binary(name: str) -> Path:
    """
    Return a program's file, building its module first if this machine never did.

    Args:
        name: Program, such as "kubelet", "containerd" or "pause".
    Returns: Path of an executable called `name`; its folder holds the module's other programs too.
    Raises:
        MissingTool: No module yields that program, or Go is not installed.
        BuildFailed: The compiler refused.
    """
    return _built(_module_of(name)) / name


def is_built(name: str) -> bool:
    """
    Tell whether this machine has a program already, so that `binary` would return at once.

    Returns: False also where Go is not installed: its version is part of what a program is known by.
    Raises: MissingTool: No module yields that program.
    """
    module = _module_of(name)
    return shutil.which("go") is not None and _target(module).is_dir()


def module_directory(program: str, dependency: str) -> Path:
    """
    Return the unpacked source of a module that a program is built from, for data files it carries.

    Args:
        program: Program whose go.mod pins the dependency.
        dependency: Go module path, such as "sigs.k8s.io/kwok"; with `@` and a version if go.mod does not name it.
    Raises: BuildFailed: The module cannot be had.
    """
    module = _module_of(program)
    folder = _SOURCES / module.folder
    _run_go(module, "mod", "download", dependency, folder=folder)
    return Path(_run_go(module, "list", "-m", "-f", "{{.Dir}}", dependency, folder=folder).strip())


def expected_seconds(name: str) -> float:
    """Return how long building a program took the last time, or takes on two cores; `is_built` says if it must be."""
    module = _module_of(name)
    return Durations(cache_directory() / "durations.json").last(module.folder, module.cold_seconds)


def _module_of(program: str) -> GoModule:
    for module in MODULES:
        if program in module.packages:
            return module
    known = ", ".join(sorted(name for module in MODULES for name in module.packages))
    raise MissingTool(f"program {program}", f"no module under tests/cluster/go builds it, only {known}")


def _target(module: GoModule) -> Path:
    return cache_directory() / "bin" / f"{module.folder}-{_key(module)}"


@cache
def _built(module: GoModule) -> Path:
    target = _target(module)
    if target.is_dir():
        os.utime(target)
        return target
    with _one_build_at_a_time(module):
        if target.is_dir():
            return target
        durations = Durations(cache_directory() / "durations.json")
        begun = time.monotonic()
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent, module)
        with tempfile.TemporaryDirectory(prefix=f".{module.folder}-", dir=target.parent) as scratch:
            with step(
                f"building {module.folder} (once per machine)", durations.last(module.folder, module.cold_seconds)
            ):
                fresh = Path(scratch) / "bin"
                _compile(module, fresh)
            fresh.rename(target)
        durations.record(module.folder, time.monotonic() - begun)
    return target


def _remove_leftovers(directory: Path, module: GoModule) -> None:
    """Remove what a killed build left, and what no checkout has used for a month: a version takes 160 MB."""
    for left_by_a_kill in directory.glob(f".{module.folder}-*"):
        shutil.rmtree(left_by_a_kill)
    for built in directory.glob(f"{module.folder}-*"):
        if time.time() - built.stat().st_mtime > _UNUSED_SECONDS:
            shutil.rmtree(built)


def _compile(module: GoModule, target: Path) -> None:
    target.mkdir()
    made: dict[str, str] = {}
    for name, package in module.packages.items():
        if package in made:
            (target / name).symlink_to(made[package])
            continue
        _run_go(module, "build", *module.flags, "-o", str(target / name), package, folder=_SOURCES / module.folder)
        made[package] = name


def _run_go(module: GoModule, *arguments: str, folder: Path) -> str:
    try:
        finished = subprocess.run(
            [_go(), *arguments],
            cwd=folder,
            env=os.environ | _ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=_BUILD_LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        raise BuildFailed(module.folder, f"no end after {seconds_text(expired.timeout)}") from expired
    if finished.returncode:
        raise BuildFailed(module.folder, "\n".join(finished.stderr.splitlines()[-20:]))
    return finished.stdout


@cache
def _go() -> str:
    if found := shutil.which("go"):
        return found
    raise MissingTool("the Go compiler", "install Go 1.26 or newer and put it on PATH")


@cache
def _go_version() -> str:
    return subprocess.run(
        [_go(), "env", "GOVERSION", "GOOS", "GOARCH"],
        env=os.environ | _ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def _key(module: GoModule) -> str:
    """Hash everything that shapes the result: sources, pins, compiler, flags."""
    digest = hashlib.sha256()
    digest.update(
        repr((_go_version(), module.flags, sorted(module.packages.items()), sorted(_ENVIRONMENT.items()))).encode()
    )
    root = _SOURCES / module.folder
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.name.endswith("_test.go"):
            digest.update(f"\0{path.relative_to(root)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _one_build_at_a_time(module: GoModule) -> Iterator[None]:
    path = cache_directory() / "build.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another build runs; {module.folder} waits for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
