"""What one cluster made on the machine, for tests that nothing of it is left."""

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

    @classmethod
    def of(cls, name: str) -> "Traces":
        """Note what the cluster's record names."""
        record = Record(STATE / name, None)
        files = list((STATE / name / "netns").glob("*"))
        return cls(name, f"flc{record.number}", frozenset(f"net:[{file.stat().st_ino}]" for file in files))

    def left(self) -> list[str]:
        """List what is still there; other clusters of the machine do not count."""
        found = [str(path) for path in [STATE / self.name] if path.exists()]
        found += [
            line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{STATE}/{self.name}/" in line
        ]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/fairlead-cluster/{self.name}*")]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                inside = str((process / "ns" / "net").readlink()) in self.namespaces
                groups = (process / "cgroup").read_text()
            except OSError:
                continue
            grouped = f"/fairlead-cluster/{self.name}" in groups
            # The kernel gives the number of a namespace that is gone to the next one, which may be another cluster's.
            if grouped or (inside and "/fairlead-cluster/" not in groups):
                found.append(f"process {process.name}: {(process / 'cmdline').read_text()[:100]}")
        return found

    def expect_none(self) -> None:
        """Wait until nothing is left: the kernel takes a namespace down in its own time."""
        wait_until(lambda: not self.left(), f"{self.name} to leave nothing: {self.left()}", 10)
