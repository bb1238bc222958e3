"""
The peer of the relay's agent port: the `websockets` server as its documentation shows it, with the relay's TLS.

`python -m tests.bench.plain_server DATA_DIR asyncio|uvloop` prints its port, then keeps every connection open and does
nothing else: no sessions, no store. Compression is off, as in the relay, so that the loop is all that differs.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from pathlib import Path

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from fairlead_relay.data_directory import DataDirectory
from fairlead_relay.pki.authority import CertificateAuthority
from fairlead_relay.pki.server_tls import ServerTls


async def hold(connection: ServerConnection) -> None:
    """Keep a connection until the other end closes it."""
    await connection.wait_closed()


async def run(context: ssl.SSLContext) -> None:
    """Serve until killed."""
    async with serve(
        hold, "127.0.0.1", 0, ssl=context, subprotocols=[Subprotocol("fairlead.v1")], compression=None, backlog=1024
    ) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


def main() -> None:
    """Run the server on the loop that was asked for."""
    directory = DataDirectory(Path(sys.argv[1]))
    authority = CertificateAuthority.load(directory.authority, time.time)
    tls = ServerTls(authority, ("localhost", "127.0.0.1"), directory.folder / "plain-server.pem", time.time)
    tls.renew_if_due()
    runner = uvloop.run if sys.argv[2] == "uvloop" else asyncio.run
    runner(run(tls.agent_port))


if __name__ == "__main__":
    main()
