"""`fairlead-relay doctor`: says what is wrong with a relay and what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from fairlead_relay.commands.settings_options import data_dir_option, make_settings


@click.command()
@data_dir_option
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def doctor(data_dir: Path | None, output: str) -> None:
    """
    Look at folder, keys, certificate authority, database and ports, and say what fails and what to do.

    Beside a relay that serves, or before its first start. Changes nothing; exit code 1 when something fails.

    Example: fairlead-relay doctor --data-dir /srv/relay
    """
    settings = make_settings(data_dir=data_dir)
    from fairlead_relay.doctor import Doctor  # noqa: PLC0415  (--help does without it)

    examination = Doctor(settings)
    examination.examine()
    if output == "json":
        findings = [finding.as_fields() for finding in examination.findings]
        click.echo(json.dumps({"well": examination.is_well, "findings": findings}, indent=2))
    else:
        for finding in examination.findings:
            click.echo(finding.line)
    sys.exit(0 if examination.is_well else 1)
