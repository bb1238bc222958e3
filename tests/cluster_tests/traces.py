"""What one cluster made on the machine, for tests that nothing of it is left."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.record import STATE, Record
from tests.polling import wait_until


@dataclass(frozen=True)
class Traces:
    """What one cluster made on the machine, noted while it is up."""

    name: str
    link: str
    namespaces: frozenset[str]
    inside: frozenset[str]
    """
    Processes in those namespaces, by number and start. One that stays keeps its namespace; the number of a namespace
    that is gone goes to the next one, which may be of another cluster or of a build.
    """

    @classmethod
    def of(cls, name: str) -> "Traces":
        """Note what the cluster's record names."""
        record = Record(STATE / name, None)
        files = (STATE / name / "netns").glob("*")
        namespaces = frozenset(f"net:[{file.stat().st_ino}]" for file in files)
        inside = frozenset(key for key, _, namespace, _ in _processes() if namespace in namespaces)
        return cls(name, f"flc{record.number}", namespaces, inside)

    def left(self) -> list[str]:
        """List what is still there; other clusters of the machine do not count."""
        found = [str(path) for path in [STATE / self.name] if path.exists()]
        found += [
            line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{STATE}/{self.name}/" in line
        ]
        # One level for the unified hierarchy, two where each controller has its own.
        for pattern in ("fairlead-cluster", "*/fairlead-cluster"):
            found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"{pattern}/{self.name}*")]
        for key, command, _, groups in _processes():
            if key in self.inside or f"/fairlead-cluster/{self.name}" in groups:
                found.append(f"process {key}: {command}")
        return found

    def expect_none(self) -> None:
        """Wait until nothing is left: the kernel takes a namespace down in its own time."""
        wait_until(lambda: not self.left(), f"{self.name} to leave nothing: {self.left()}")


def _processes() -> Iterator[tuple[str, str, str, str]]:
    """Yield each process of the machine: number and start, command, network namespace, control groups."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # Start in clock ticks is field 22; field 2, the name in parentheses, may hold spaces.
            started = (process / "stat").read_text().rpartition(")")[2].split()[19]
            namespace = str((process / "ns" / "net").readlink())
            groups = (process / "cgroup").read_text()
            yield f"{process.name} of {started}", (process / "cmdline").read_text()[:100], namespace, groups
        except OSError:
            continue  # it ended meanwhile
