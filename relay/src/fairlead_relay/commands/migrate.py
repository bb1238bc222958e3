"""`fairlead-relay migrate`: brings the database up to date without serving."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from fairlead_relay.commands.settings_options import data_dir_option, make_settings


@click.command()
@data_dir_option
def migrate(data_dir: Path | None) -> None:
    """Bring the database up to date, then end. `serve` does it too when it starts."""
    settings = make_settings(data_dir=data_dir)
    from fairlead_relay.data_directory import DataDirectory  # noqa: PLC0415
    from fairlead_relay.store import Store  # noqa: PLC0415

    async def run() -> None:
        DataDirectory(settings.data_dir)
        store = Store(settings.database, lambda *_: None)
        await store.start()  # which migrates
        await store.stop()

    asyncio.run(run())
    click.echo("the database is up to date")
