"""
The peer of the relay's agent port: the `websockets` server as its documentation shows it, with the relay's certificate.

`python -m tests.bench.plain_server DATA_DIR asyncio|uvloop` prints its port, then keeps every connection open and sends
every message back: no sessions, no store. Compression is off, as in the relay: the loop is all that differs.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from pathlib import Path

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol


async def hold(connection: ServerConnection) -> None:
    """Send back what comes, until the other end closes the connection."""
    async for message in connection:
        await connection.send(message)


async def run(context: ssl.SSLContext) -> None:
    """Serve until killed."""
    async with serve(
        hold, "127.0.0.1", 0, ssl=context, subprotocols=[Subprotocol("fairlead.v1")], compression=None, backlog=1024
    ) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


def main() -> None:
    """Run the server on the loop that was asked for."""
    data_dir = Path(sys.argv[1])
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # a handshake without a request is no news here
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(data_dir / "server.pem")
    context.load_verify_locations(data_dir / "pki" / "root.pem")
    runner = uvloop.run if sys.argv[2] == "uvloop" else asyncio.run
    runner(run(context))


if __name__ == "__main__":
    main()
