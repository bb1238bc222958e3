"""
An image as files on this machine, and programs run in it as a container runtime with the strictest settings would.

No cluster takes part, so what an image needs of its file system, user and network shows within a second. Must not: give
a program anything that such a container lacks: the root file system is read-only, the user is any, there is no network.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.commands import run
from tests.cluster.debian import ensure_packages
from tests.polling import PATIENCE_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.cluster.images import BuiltImage

ANY_USER = 1_000_680_000
"""A user id as OpenShift gives one to each namespace: no image knows it. Its group is 0."""
_COPY_SECONDS = 300.0
_START_SECONDS = PATIENCE_SECONDS
# $1 is the image's root; then a folder of this machine and where it is seen, as often as wanted, "--", and what to run.
# /proc and /dev are what every runtime gives.
_ENTER = """
set -e
root=$1
shift
mount --bind "$root" "$root"
while test "$1" != --; do
  mount --bind "$1" "$root$2"
  shift 2
done
shift
mount --rbind /dev "$root/dev"
mount --types proc proc "$root/proc"
mount --options remount,bind,ro "$root"
ip link set lo up
exec env -i "$@"
"""


@dataclass(frozen=True, kw_only=True)
class UnpackedImage:
    """What an image holds and says."""

    root: Path
    """Its file system."""
    configuration: Mapping[str, Any]
    """Its configuration: entry point, user, variables, labels."""

    @property
    def files(self) -> list[Path]:
        """Its regular files."""
        return [path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()]

    @property
    def size_bytes(self) -> int:
        """What its files take when it is unpacked."""
        return sum(path.lstat().st_size for path in self.root.rglob("*"))

    def argv(
        self,
        arguments: Sequence[str],
        volumes: Mapping[str, Path],
        environment: Mapping[str, str],
        *,
        user: int = ANY_USER,
        has_network: bool = False,
    ) -> list[str]:
        """
        Return the command that runs its entry point, locked down, in namespaces that end with it.

        Args:
            arguments: In place of the image's own.
            volumes: Folders of this machine by where the program sees them: the only places where it may write.
            environment: Variables beyond the image's own; it has no others.
            user: Whom it runs as.
            has_network: Whether it shares the network namespace of whoever runs the command.
        """
        contained = ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork"]
        contained += [] if has_network else ["--net"]
        contained += ["--kill-child", "--mount-proc", "--propagation", "private", "--"]
        seen = [word for place, folder in volumes.items() for word in (str(folder), place)]
        variables = [*self.configuration["Env"], *(f"{name}={text}" for name, text in environment.items())]
        changed = ["/usr/sbin/chroot", f"--userspec={user}:0", "--groups=", str(self.root)]
        return [
            *(*contained, "/bin/sh", "-c", _ENTER, "enter", str(self.root), *seen, "--"),
            *(*variables, *changed, *self.configuration["Entrypoint"], *arguments),
        ]

    def run(self, *arguments: str) -> str:
        """Run its entry point to its end. Returns: what it wrote. Raises: CommandFailed: it failed."""
        return run(self.argv(arguments, {}, {}), seconds=_START_SECONDS)


def unpack(image: BuiltImage, directory: Path) -> UnpackedImage:
    """
    Unpack an image of the local registry.

    Args:
        image: The image.
        directory: An empty folder, made if missing.
    """
    ensure_packages(["skopeo"])
    copied, root = directory / "copied", directory / "root"
    root.mkdir(parents=True)
    run(
        ["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{image.pinned}", f"dir:{copied}"],
        seconds=_COPY_SECONDS,
    )
    manifest = json.loads((copied / "manifest.json").read_text())
    for layer in manifest["layers"]:
        with tarfile.open(copied / layer["digest"].partition(":")[2]) as archive:
            archive.extractall(root, filter="fully_trusted")  # an image of ours, with its users and modes
    for name in ("dev", "proc"):
        (root / name).mkdir(exist_ok=True)  # as each runtime does
    configuration = json.loads((copied / manifest["config"]["digest"].partition(":")[2]).read_text())
    return UnpackedImage(root=root, configuration=configuration["config"])


def volume(directory: Path, user: int = ANY_USER) -> Path:
    """Return a folder, made, that belongs to the user of a container."""
    directory.mkdir()
    os.chown(directory, user, 0)
    return directory


@contextmanager
def serving(
    image: UnpackedImage, volumes: Mapping[str, Path], environment: Mapping[str, str], *, user: int = ANY_USER
) -> Iterator[float]:
    """
    Run the relay's image with its own arguments as long as the block runs; SIGTERM ends it, with exit code 0.

    Args:
        image: The relay's.
        volumes: As `UnpackedImage.argv` has them; one of them holds its data.
        environment: Variables beyond the image's own, with its data directory.
        user: Whom it runs as.
    Yields: How many seconds after its start it was ready.
    """
    data = environment["FAIRLEAD_RELAY_DATA_DIR"]
    place = next(place for place in volumes if data.startswith(place))
    ready = volumes[place] / data.removeprefix(place).lstrip("/") / "ready.json"
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        argv = image.argv(image.configuration["Cmd"], volumes, environment, user=user)
        process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            wait_until(lambda: ready.exists() or process.poll() is not None, "the relay", _START_SECONDS)
            yield time.monotonic() - begun
            (contained,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(contained), signal.SIGTERM)
            code = process.wait(_START_SECONDS)
            log.seek(0)
            assert code == 0, log.read()
        finally:
            process.kill()
            process.wait()
