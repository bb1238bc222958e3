"""`fairlead diff`: what a deployment would change, with the exit codes of diff(1)."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from fairlead_cli.options import ContentNames, examples, with_content, with_output
from fairlead_cli.parameters import AddressType, EnvironmentAddress
from fairlead_cli.terminal import Terminal

NOTHING_CHANGES, SOMETHING_CHANGES, TROUBLE = 0, 1, 2


@click.command(
    epilog=examples(
        "fairlead diff -f k8s/ --env shop/staging",
        "fairlead diff -f chart/ --values staging.yaml --env shop/staging -o json",
    )
)
@with_content
@click.option("--env", "-e", "address", type=AddressType(), required=True, help="Compared with what runs there.")
@with_output
def diff(content: ContentNames, address: EnvironmentAddress, terminal: Terminal) -> int:
    """
    Compare manifests with what was deployed last.

    The exit code is 0 if nothing would change, 1 if something would, and 2 or more for any error. Compared is the
    bundle that succeeded last, not the cluster: what the API server fills in and what somebody changed by hand is not
    seen. Values of Secrets are sealed and cannot be compared.
    """
    import sys
    from functools import partial

    from fairlead_cli.comparing import compare_with_current, remark
    from fairlead_cli.connecting import connect
    from fairlead_cli.content import chart_options, read_content
    from fairlead_cli.manifests import read_manifests

    with _trouble_is_two(), connect() as client:
        environment = client.environment(address.application, address.environment)
        environment = environment.model_copy(update={"application": address.application})
        version = partial(client.kubernetes_version, environment.cluster)
        chart = chart_options(content, address.application, environment.namespace, version)
        texts = read_content(content.names, sys.stdin, chart, terminal.say)
        changes = compare_with_current(client, environment, read_manifests(texts, environment.namespace))
        if terminal.is_table:
            terminal.write_diffs(one.diff for one in changes.objects)
        else:
            changed = [one for one in changes.objects if one.diff]
            terminal.show_all(changed, [], lambda row: str(row.object))
        remark(terminal, environment, changes)
    return SOMETHING_CHANGES if changes.is_changed else NOTHING_CHANGES


@contextmanager
def _trouble_is_two() -> Iterator[None]:
    """Let no error end with 1, which says that something changes."""
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
