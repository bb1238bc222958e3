"""`fairlead-relay backup` and `restore`: everything the relay has, into one file and back."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from fairlead_relay.commands.acting import command_actor
from fairlead_relay.commands.settings_options import data_dir_option, make_settings

STANDARD_OUTPUT = Path("-")
_SHOWN = 10
"""Missing bundles that are named; the rest is counted."""


@click.command()
@data_dir_option
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="File to write, mode 0600; - for standard output.",
)
def backup(data_dir: Path | None, output: Path) -> None:
    """
    Write a backup: store, bundles, and the certificate authority with its keys.

    The relay may serve meanwhile. Who has the file can issue certificates and sign deployments: keep it as secret as
    the data directory, or encrypt it on its way.

    Example: fairlead-relay backup --output - | age --recipient age1… > relay.backup.age
    """
    settings = make_settings(data_dir=data_dir)
    from fairlead_relay.backup.writing import write_backup, write_backup_file  # noqa: PLC0415  (--help does without it)

    try:
        if output == STANDARD_OUTPUT:
            taken = write_backup(settings, sys.stdout.buffer, _tell)
        else:
            taken = write_backup_file(settings, output, _tell)
    except OSError as error:
        raise click.ClickException(f"no backup was written: {error.strerror or error} ({error.filename})") from error
    click.echo(f"{taken.rows} rows and {taken.bundles} bundles are backed up", err=True)
    if taken.missing:
        named = ", ".join(sha256[:12] for sha256 in taken.missing[:_SHOWN])
        reason = f"bundles are missing, since their bytes are gone or damaged in the relay, too: {named}"
        raise click.ClickException(f"{len(taken.missing)} {reason}")


def _tell(step: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"backup: {step}", err=True)


@click.command()
@data_dir_option
@click.option("--replace", is_flag=True, help="Give up what the store holds now, but for who may do what.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def restore(data_dir: Path | None, file: Path, *, replace: bool) -> None:
    """
    Put a backup back, into an SQLite file or a PostgreSQL, whichever it was taken of. Stop every relay first.

    What happened since is not in it. Agents go on with what they run, and refuse to do again what they did. With
    --replace, tokens, agents and approvals stay as the present store has them, so that nobody who was revoked since
    comes back; without a present store they are the backup's: look through them. A certificate authority that is
    there stays.

    Example: fairlead-relay restore --data-dir /srv/relay relay.backup
    """
    settings = make_settings(data_dir=data_dir)
    from fairlead_relay.backup.archive import ArchiveReader  # noqa: PLC0415  (--help does without it)
    from fairlead_relay.backup.restoring import restore_backup  # noqa: PLC0415  (--help does without it)
    from fairlead_relay.data_directory import DataDirectory  # noqa: PLC0415  (--help does without it)
    from fairlead_relay.store.blobs import open_blobs  # noqa: PLC0415  (--help does without it)
    from fairlead_relay.store.outbox import iso_time  # noqa: PLC0415  (--help does without it)

    directory = DataDirectory(settings.data_dir)
    directory.hold()
    try:
        archive = ArchiveReader(file)
        restored = restore_backup(
            archive,
            settings.database,
            open_blobs(settings.blobs_url, settings.database, directory.blobs),
            settings.authority,
            time.time(),
            command_actor("restore"),
            replace=replace,
        )
    except OSError as error:
        raise click.ClickException(f"the backup was not restored: {error.strerror or error}") from error
    finally:
        directory.release()
    click.echo(
        f"restored the backup of {iso_time(archive.about.taken_at)}: {restored.rows} rows, {restored.bundles} bundles"
    )
    if restored.kept_authority:
        click.echo("kept the certificate authority that is there", err=True)
    rights = "kept the tokens, agents and approvals of the store that was there"
    if not restored.kept_rights:
        rights = "tokens, agents and approvals are as of the backup: revoke again who was revoked since"
    click.echo(rights, err=True)
    if restored.unsettled:
        click.echo(f"{restored.unsettled} jobs wait for their agents to say what became of them", err=True)
