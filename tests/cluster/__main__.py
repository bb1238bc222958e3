"""
The command line of the cluster tool: `python -m tests.cluster --help`.

Exit codes: 0 done, 1 it failed (one sentence on stderr), 2 wrong usage, 130 interrupted. Results go to stdout, progress
to stderr. Must not: hold logic of its own; it only calls `Cluster` and prints.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tests.cluster.binaries import binary
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.gateway import ensure_gateway
from tests.cluster.images import build_image, load_image
from tests.cluster.metrics import ensure_metrics
from tests.cluster.progress import say, seconds_text
from tests.cluster.record import Record, reap_dead, records, start_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

_DEFAULT_NAME = "dev"
_ADDONS: Mapping[str, Callable[[Cluster], object]] = {"gateway": ensure_gateway, "metrics": ensure_metrics}
_NAME = click.option("--name", default=_DEFAULT_NAME, show_default=True, help="Which cluster.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Real Kubernetes on this machine, in network namespaces that nothing can dial into. Needs root."""
    signal.signal(signal.SIGTERM, _interrupt)


@commands.command()
@_NAME
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(0, 20), help="Real nodes; 0: control plane.")
@click.option(
    "--with",
    "chosen",
    multiple=True,
    type=click.Choice(sorted(_ADDONS)),
    help="What else it has: gateway is Traefik for the Gateway API, metrics is metrics-server. May be repeated.",
)
def up(name: str, nodes: int, chosen: tuple[str, ...]) -> None:
    """Start a cluster; it stays up until `down`."""
    begun = time.monotonic()
    cluster = Cluster.up(name, nodes=nodes, addons=[_ADDONS[each] for each in dict.fromkeys(chosen)])
    cluster.keep()
    say(f"{name} is up after {seconds_text(time.monotonic() - begun)}; nothing outside can dial into it, so go inside:")
    tool = "python -m tests.cluster"
    click.echo(f"{tool} exec --name {name} -- kubectl get nodes,pods --all-namespaces")
    click.echo(f"{tool} exec --name {name} -- bash")
    click.echo(f"{tool} down --name {name}")


@commands.command()
@click.option("--name", default=None, help=f"Which cluster (default: {_DEFAULT_NAME}).")
@click.option("--all", "everything", is_flag=True, help="Every cluster that no running process owns.")
def down(name: str | None, *, everything: bool) -> None:
    """Stop a cluster and remove all it made; remains of killed runs go with it."""
    if everything and name:
        raise click.UsageError("--name and --all exclude each other")
    cleared = reap_dead()
    for one in cleared:
        say(f"cleared what a killed run left of {one}")
    chosen = [record.name for record in records() if record.kept] if everything else [name or _DEFAULT_NAME]
    for one in chosen:
        if one not in cleared:
            Record.claim(one).clear()
            say(f"{one} is down")


@commands.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(output: str) -> None:
    """Show which clusters are up, and who owns them."""
    # Other tools keep records, too (the test session's registry): a cluster has namespaces.
    found = [_describe(record) for record in records() if record.alive and (record.directory / "netns").exists()]
    if output == "json":
        click.echo(json.dumps(found, indent=1))
        return
    if not found:
        click.echo("no cluster is up")
    for one in found:
        owner = "kept" if one["kept"] else f"owned by process {one['owner']}"
        ended = [process["name"] for process in one["processes"] if not process["running"]]
        click.echo(f"{one['name']}: {one['nodes']} nodes, {owner}, {one['server']}, logs in {one['directory']}/log")
        if ended:
            click.echo(f"  not running: {', '.join(ended)}")


@commands.command()
@_NAME
def kubeconfig(name: str) -> None:
    """Print an administrator's kubeconfig, of use inside only (see `exec`)."""
    click.echo(Cluster.open(name).kubeconfig.read_text())


@commands.command("exec", context_settings={"ignore_unknown_options": True})
@_NAME
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_inside(name: str, argv: tuple[str, ...]) -> NoReturn:
    """Run a program inside, with kubectl on its PATH and KUBECONFIG set."""
    cluster = Cluster.open(name)
    environment = os.environ | {
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{binary('kubectl').parent}:{os.environ['PATH']}",
    }
    os.execvpe("nsenter", ["nsenter", f"--net={cluster.netns}", "--", *argv], environment)


@commands.command("load-image")
@_NAME
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def load(name: str, archive: Path) -> None:
    """Give the image in a tar file (OCI layout or `docker save`) to every real node."""
    load_image(Cluster.open(name), archive)


@commands.command("build-image")
@_NAME
@click.option("--tag", required=True, help="Repository and tag, such as harbour/web:1.")
@click.option("--file", "containerfile", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None)
@click.argument("context", type=click.Path(exists=True, file_okay=False, path_type=Path))
def build(name: str, tag: str, containerfile: Path | None, context: Path) -> None:
    """Build CONTEXT's Containerfile, push it to the cluster's registry and print the name pods pull it by."""
    registry = Cluster.open(name).serve_registry()
    image = build_image(registry, containerfile or context / "Containerfile", context, tag)
    click.echo(image.reference)


def _describe(record: Record) -> dict[str, Any]:
    cluster = Cluster.open(record.name)
    processes = [
        {"name": entry["name"], "pid": entry["pid"], "running": start_time(entry["pid"]) == entry["start"]}
        for entry in record.entries("process")
    ]
    return {
        "name": record.name,
        "kept": record.kept,
        "owner": next(record.entries("record"), {"owner": None})["owner"],
        "nodes": len(cluster.nodes),
        "server": cluster.server,
        "directory": str(record.directory),
        "processes": processes,
    }


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line."""
    try:
        commands(prog_name="python -m tests.cluster", standalone_mode=False)
    except ClusterError as error:
        say(f"error: {error}")
        sys.exit(1)
    except click.Abort:
        say("interrupted; everything begun was cleared")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
