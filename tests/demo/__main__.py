"""
`make demo`: from nothing to an application deployed, broken, rolled back and changed, in two minutes.

Exit codes: 0 told to its end, 1 a step went wrong (one sentence on stderr), 130 interrupted. With CI set it ends by
itself; else it waits at its end for Ctrl-C, so that one can look around. Whenever it ends, everything it made goes with
it; what a SIGKILL leaves, the next run clears.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from tests.cluster.errors import ClusterError
from tests.cluster.progress import seconds_text
from tests.demo.ground import open_home, private_clusters, users_cluster
from tests.demo.narration import DemoFailed, Narrator, Shell
from tests.demo.story import STEPS, Story, environment

if TYPE_CHECKING:
    from types import FrameType


_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def main() -> int:
    """Tell the story. Returns: The exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    narrator = Narrator(STEPS)
    try:
        with ExitStack() as stack:
            try:
                _tell(narrator, stack)
                narrator.say(f"\nTold in {seconds_text(narrator.elapsed)}.")
                if not os.environ.get("CI"):
                    narrator.say("Press Ctrl-C to end; everything the demo made is removed then.")
                    with suppress(KeyboardInterrupt):
                        signal.pause()
            finally:
                # A second Ctrl-C must not end the tidying up half-way.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                narrator.say("Removing what the demo made.")
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (DemoFailed, ClusterError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"demo: error: {error}\n")
        return 1
    return 0


def _tell(narrator: Narrator, stack: ExitStack) -> None:
    context = os.environ.get("DEMO_CONTEXT", "")
    home = stack.enter_context(open_home())
    shell = Shell(narrator, home.directory, environment(home, os.environ.get("KUBECONFIG") if context else None))
    if context:
        narrator.step("Your cluster", "It gets three namespaces, which are deleted at the end, and nothing else.")
        ground = stack.enter_context(users_cluster(home, context, os.environ, narrator))
    else:
        narrator.step(
            "A private cluster, and one for the relay",
            "Real Kubernetes on this machine, in network namespaces without a default route. The private one can dial "
            "the relay's port for agents and an image registry, and nothing can dial into it. The first run builds all "
            "of it from source (15 minutes).",
        )
        ground = stack.enter_context(private_clusters(home))
        narrator.say(f"both are up, and the images are in their registry at {ground.registry}")
    Story(narrator=narrator, shell=shell, home=home, ground=ground).tell()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
