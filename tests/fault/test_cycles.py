"""Connections that end leave nothing behind, on either side; the benchmark `cycles` looks at memory, and at 10,000."""

from pathlib import Path

from tests.bench.cycles import cycling
from tests.fault.scale import scaled

DROPS = scaled(60, 2_500)
AGENTS = 2


def test_dropped_connections_leave_no_tasks_and_no_descriptors(tmp_path: Path) -> None:
    """Whether they were closed in due form or reset."""
    with cycling(tmp_path, AGENTS) as cycle:
        cycle.drop(5)
        before = cycle.look_when_calm(cycle.look())
        cycle.drop(DROPS)
        after = cycle.look_when_calm(before)
        assert after.is_calm(before), (before, after)
