"""The memory of a process that joins a control group of its own is counted there, and nobody else's."""

import secrets
import sys

from tests.bench.processes import MIB, joining, working_set_of
from tests.cluster.cluster import Cluster
from tests.polling import wait_until

HELD_MIB = 64
HOLD = f"import signal; held = bytearray({HELD_MIB} << 20); print('held', flush=True); signal.pause()"


def test_a_process_is_counted_in_the_group_that_it_joins(control_plane: Cluster) -> None:
    """The working set is what the process holds and little more, though its cluster and this test hold far more."""
    name = f"held-{secrets.token_hex(3)}"
    group = control_plane.memory_group(name)
    assert group is not None
    assert working_set_of(group) == 0
    process = control_plane.spawn(name, joining(group, [sys.executable, "-c", HOLD]))
    try:
        wait_until(lambda: "held" in process.log.read_text(), "the process to hold its memory", 60)
        assert HELD_MIB <= working_set_of(group) / MIB < 2 * HELD_MIB
        assert (group / "cgroup.procs").read_text().split() == [str(process.pid)]
    finally:
        process.kill()
