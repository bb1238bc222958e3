"""`fairlead-relay serve`: runs the relay until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click

from fairlead_relay.commands.settings_options import data_dir_option, make_settings


@click.command()
@data_dir_option
@click.option("--api-listen", metavar="HOST:PORT", help="Address of the API.  [default: 127.0.0.1:7443]")
@click.option("--agent-listen", metavar="HOST:PORT", help="Address that agents dial.  [default: 0.0.0.0:7444]")
@click.option("--api-url", metavar="URL", help="How people reach the API, if not at its address.")
@click.option("--agent-url", metavar="URL", help="How agents reach their port (wss://…), if not at its address.")
@click.option(
    "--server-name",
    "server_names",
    multiple=True,
    metavar="NAME",
    help="DNS name or address in the relay's certificates; repeat for more.  [default: localhost, 127.0.0.1, ::1]",
)
@click.option("--api-tls/--no-api-tls", default=None, help="Off only behind an ingress that ends TLS.  [default: on]")
@click.option("--log-format", type=click.Choice(["json", "console"]), help="[default: json]")
def serve(
    data_dir: Path | None,
    api_listen: str | None,
    agent_listen: str | None,
    api_url: str | None,
    agent_url: str | None,
    server_names: tuple[str, ...],
    api_tls: bool | None,  # noqa: FBT001  (click passes by name)
    log_format: str | None,
) -> None:
    """
    Run the relay: the API, and the port that agents dial.

    A database other than the SQLite file in the data directory is set by FAIRLEAD_RELAY_DATABASE_URL; it may hold a
    password, which does not belong in a command line.

    Example: fairlead-relay serve --data-dir /srv/relay --server-name relay.example.com --api-listen :7443
    """
    settings = make_settings(
        data_dir=data_dir,
        api_listen=api_listen,
        agent_listen=agent_listen,
        api_url=api_url,
        agent_url=agent_url,
        server_names=server_names or None,
        api_tls=api_tls,
        log_format=log_format,
    )
    import uvloop  # noqa: PLC0415  (a wrong flag is reported without it)

    from fairlead_relay import logs  # noqa: PLC0415
    from fairlead_relay.app import Relay  # noqa: PLC0415
    from fairlead_relay.collector import look_less_often  # noqa: PLC0415  (as uvloop)

    logs.configure(settings.log_format)

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        relay = Relay(settings)
        await relay.start()
        look_less_often()
        try:
            await stop.wait()
        finally:
            await relay.stop()

    uvloop.run(run())
