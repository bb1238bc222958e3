"""
`make bench`: measure the product beside what each figure is compared with, and print tables.

Exit codes: 0 measured, 1 something could not be measured (one sentence on stderr), 2 wrong usage, 130 interrupted. A
missed target is no error: it is shown. Results go to stdout, progress to stderr. Must not: be run as a test, since the
figures depend on what else the machine does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING

import click

from tests.bench.figures import Result, to_json, to_text
from tests.bench.progress import say
from tests.bench.workplace import Workplace
from tests.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from tests.bench.figures import Figure

_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


@dataclass(frozen=True)
class Benchmark:
    """One entry of the list."""

    name: str
    """Also its module in this folder, whose `measure` makes the figures."""
    measures: str
    estimate_seconds: int
    """On two cores, with everything built."""


BENCHMARKS = (
    Benchmark("commands", "time of `fairlead --help` and `fairlead version`", 15),
    Benchmark("starts", "from the start of the images to a relay that serves and an agent that is connected", 60),
    Benchmark("enqueue", "durable enqueue at the dispatcher and through the API, on SQLite and PostgreSQL", 60),
    Benchmark("dispatch", "from an API request to the agent that starts the job, one agent", 30),
    Benchmark("offers", "from an API request to the offer at one of 1,000 connected agents", 75),
    Benchmark("planning", "how late the relay is while a bundle of 16 MiB is planned", 40),
    Benchmark("streams", "events of one agent: rate, acknowledgement, live stream; alone and beside a bulk stream", 90),
    Benchmark("connections", "relay memory, CPU, rate and answers with 2,000 and 5,000 agents", 600),
    Benchmark("cycles", "what 10,000 connections leave behind: tasks, descriptors, memory of both sides", 300),
    Benchmark("idle", "memory and CPU of a connected agent with nothing to do", 60),
    Benchmark("apply", "100 objects through relay and agent, kubectl and raw requests", 120),
    Benchmark("applications", "4,000 objects in 20 namespaces, as one bundle, in these ways and by Flux", 2400),
    Benchmark("deployments", "the same objects as 1,000 deployments of one agent, and in one kubectl", 1200),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[NAME ...]", type=click.Choice([one.name for one in BENCHMARKS]))
@click.option("--list", "is_listing", is_flag=True, help="Say what there is, and end.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def bench(names: Sequence[str], output: str, *, is_listing: bool) -> None:
    """Measure; without a NAME, everything. Those with a real API server or containers need root."""
    if is_listing:
        for one in BENCHMARKS:
            click.echo(f"{one.name:12} {one.measures} (about {one.estimate_seconds} s)")
        return
    results = []
    with Workplace() as workplace:
        for one in BENCHMARKS:
            if not names or one.name in names:
                results.append(_run(one, workplace))
                if output == "table":
                    click.echo(to_text(results[-1]))
    if output == "json":
        click.echo(to_json(results))


def _run(benchmark: Benchmark, workplace: Workplace) -> Result:
    say(f"{benchmark.name}: {benchmark.measures}, about {benchmark.estimate_seconds} s")
    load_before = os.getloadavg()[0]
    started_at, began = datetime.now(UTC), time.monotonic()
    measure: Callable[[Workplace], list[Figure]] = import_module(f"tests.bench.{benchmark.name}").measure
    figures = measure(workplace)
    return Result(
        benchmark=benchmark.name,
        figures=figures,
        started_at=started_at,
        seconds=time.monotonic() - began,
        load_before=load_before,
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run the command line. Returns: The exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        bench(prog_name="python -m tests.bench", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (ClusterError, OSError, TimeoutError, subprocess.SubprocessError) as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
