"""`fairlead-relay ca`: what people need to know of the certificate authority."""

from __future__ import annotations

import time
from pathlib import Path

import click

from fairlead_relay.commands.settings_options import data_dir_option, make_settings


@click.group()
def authority() -> None:
    """Show the certificate authority."""


@authority.command()
@data_dir_option
def show(data_dir: Path | None) -> None:
    """
    Print the root certificate and its fingerprint, made first if there is none.

    The output is a PEM file as it is: fairlead-relay ca show > relay-ca.pem
    """
    settings = make_settings(data_dir=data_dir)
    from fairlead_relay.data_directory import DataDirectory  # noqa: PLC0415
    from fairlead_relay.pki.authority import CertificateAuthority  # noqa: PLC0415

    found = CertificateAuthority.open(DataDirectory(settings.data_dir).authority, time.time)
    click.echo(f"# SHA-256 fingerprint: {found.root_fingerprint}")
    click.echo(found.root_pem, nl=False)
