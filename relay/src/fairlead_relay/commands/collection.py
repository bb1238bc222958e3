"""`fairlead-relay gc`: forgets old history now, which a relay that serves does every hour."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click

from fairlead_relay.commands.settings_options import data_dir_option, make_settings

_DAY_SECONDS = 86_400.0


@click.command()
@data_dir_option
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def gc(data_dir: Path | None, *, dry_run: bool) -> None:
    """
    Forget old history now. A relay that serves does it every hour.

    What goes: deployments that ended longer ago than FAIRLEAD_RELAY_HISTORY_DAYS, with their events; health checks
    after a week; bundles that no deployment names, after a day, and their content a round later. What an environment
    runs, its newest 20 deployments, and everything that has not ended stay whatever their age.
    """
    settings = make_settings(data_dir=data_dir)
    from fairlead_relay.data_directory import DataDirectory  # noqa: PLC0415  (--help does without it)
    from fairlead_relay.housekeeping import Forgotten, Housekeeping  # noqa: PLC0415  (--help does without it)
    from fairlead_relay.store import Store  # noqa: PLC0415  (--help does without it)
    from fairlead_relay.store.blobs import open_blobs  # noqa: PLC0415  (--help does without it)

    async def run() -> Forgotten:
        directory = DataDirectory(settings.data_dir)
        store = Store(settings.database, lambda *_: None)
        await store.start()
        try:
            blobs = open_blobs(settings.blobs_url, settings.database, directory.blobs)
            housekeeping = Housekeeping(store, blobs, settings.history_days * _DAY_SECONDS, time.time)
            return await (housekeeping.count() if dry_run else housekeeping.tidy())
        finally:
            await store.stop()

    gone = asyncio.run(run())
    words = "would go" if dry_run else "are gone"
    click.echo(
        f"{gone.deployments} deployments, {gone.jobs} other jobs, {gone.bundles} bundles and the content of "
        f"{gone.contents} forgotten before {words}"
    )
