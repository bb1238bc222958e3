"""`fairlead diff`: what a deployment would change, with the exit codes of diff(1)."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from fairlead_cli.options import ContentNames, examples, with_consents, with_content, with_output
from fairlead_cli.parameters import AddressType, DurationType, EnvironmentAddress
from fairlead_cli.terminal import Terminal

if TYPE_CHECKING:
    from fairlead_cli.client import Client
    from fairlead_cli.manifests import Located
    from fairlead_cli.records import Environment

NOTHING_CHANGES, SOMETHING_CHANGES, TROUBLE = 0, 1, 2


@click.command(
    epilog=examples(
        "fairlead diff -f k8s/ --env shop/staging",
        "fairlead diff -f chart/ --values staging.yaml --env shop/staging -o json",
    )
)
@with_content
@click.option("--env", "-e", "address", type=AddressType(), required=True, help="Compared with what runs there.")
@click.option("--timeout", type=DurationType(), help="How long to wait for the agent; 60s if not given.")
@with_consents
@with_output
def diff(
    content: ContentNames,
    address: EnvironmentAddress,
    timeout: float | None,
    consents: dict[str, object],
    terminal: Terminal,
) -> int:
    """
    Compare manifests with what runs in the cluster.

    The agent has its API server dry-run everything, so that defaults and what webhooks fill in are no changes, and
    what somebody changed by hand is one. Nothing is changed. Of Secrets it says that values differ, and not which.

    The exit code is 0 if nothing would change, 1 if something would, and 2 or more for any error: 5 if a deployment
    would be refused, 8 if the agent does not answer in time. Where it cannot be asked (it, the relay or your token does
    not allow it), compared is the bundle that succeeded last, and that is said.
    """
    import os
    import sys
    from functools import partial

    from fairlead_cli.bundling import prepare
    from fairlead_cli.config import config_file
    from fairlead_cli.connecting import connect
    from fairlead_cli.content import chart_options, read_content
    from fairlead_cli.errors import ExitCode
    from fairlead_cli.manifests import read_manifests
    from fairlead_cli.planning import TIMEOUT_SECONDS, Unplanned, ask_for_plan, show_plan
    from fairlead_cli.recipients import FILE_NAME

    with trouble_is_two(), connect() as client:
        environment = client.environment(address.application, address.environment)
        environment = environment.model_copy(update={"application": address.application})
        version = partial(client.kubernetes_version, environment.cluster)
        chart = chart_options(content, address.application, environment.namespace, version)
        texts = read_content(content.names, sys.stdin, chart, terminal.say)
        located = read_manifests(texts, environment.namespace)
        pins = config_file(os.environ).with_name(FILE_NAME)
        prepared = prepare(located, client.organization, environment, client.context.server, pins)
        if prepared.new_pin:
            terminal.say(f"pinned the sealing key {prepared.new_pin} at its first use, in {pins}")
        try:
            plan = ask_for_plan(client, environment, prepared, consents, timeout or TIMEOUT_SECONDS)
        except Unplanned as reason:
            terminal.say(f"{reason}. Compared with what was deployed last instead, which is not the cluster")
            return _compare(client, terminal, environment, located)
        show_plan(terminal, plan, is_whole=False)
    if not plan.is_possible:
        return ExitCode.FAILED
    return SOMETHING_CHANGES if plan.is_changing else NOTHING_CHANGES


def _compare(client: Client, terminal: Terminal, environment: Environment, located: Sequence[Located]) -> int:
    """Show how the bundle differs from the last; return the exit code."""
    from fairlead_cli.comparing import compare_with_current, remark

    changes = compare_with_current(client, environment, located)
    if terminal.is_table:
        terminal.write_diffs(one.diff for one in changes.objects)
    else:
        changed = [one for one in changes.objects if one.diff]
        terminal.show_all(changed, [], lambda row: str(row.object))
    remark(terminal, environment, changes)
    return SOMETHING_CHANGES if changes.is_changed else NOTHING_CHANGES


@contextmanager
def trouble_is_two() -> Iterator[None]:
    """Let no error end with 1, which says that something differs."""
    from fairlead_cli.errors import CliError, ExitCode

    try:
        yield
    except CliError as error:
        if error.exit_code is ExitCode.ERROR:
            error.exit_code = ExitCode.USAGE
        raise
    except BrokenPipeError:
        raise
    except Exception:  # noqa: BLE001  (a traceback of Python ends with 1)
        traceback.print_exc()
        raise click.exceptions.Exit(TROUBLE) from None
